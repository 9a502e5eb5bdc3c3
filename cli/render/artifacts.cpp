#include <utility>

#include <fmt/format.h>

#include "cli/render/render.hpp"

namespace agentvm::cli {

std::string render_artifacts(const Json& result, const Style& style) {
  const auto outcome = text_at(result, "result");
  const auto files = number_at(result, "files"), links = number_at(result, "links");
  const bool dry = true_at(result, "dry_run");
  const auto what = fmt::format("{}{}, {}", counted(files, "file"), links > 0 ? ", " + counted(links, "link") : "",
                                size(number_at(result, "bytes")));
  const auto same = fmt::format("{} unchanged", number_at(result, "unchanged"));
  std::string text;
  if (outcome == "gated")
    text = fmt::format("{}: {}; {} wait\n", style.paint(Tone::warning, "nothing brought (gated)"),
                       text_at(result, "reason"), what);
  else if (outcome == "updated")
    text = fmt::format("{} {}, {}: {}\n", what, dry ? "would come" : "brought", same, text_at(result, "destination"));
  else
    text = fmt::format("nothing new, {}\n", same);
  const auto& gated = list_at(result, "gated");
  for (const auto& file : gated)
    text += fmt::format("  {} {}\n", style.paint(Tone::warning, text_at(file, "kind") + ":"), text_at(file, "path"));
  if (const auto count = number_at(result, "gated_count"); count > static_cast<long long>(gated.size()))
    text += fmt::format("  ... and {} more\n", count - static_cast<long long>(gated.size()));
  const auto& left_out = list_at(result, "left_out");
  for (const auto& file : left_out)
    text += fmt::format("  {} {}: {}\n", style.paint(Tone::bad, "left out"), text_at(file, "path"),
                        text_at(file, "reason"));
  if (const auto count = number_at(result, "left_out_count"); count > static_cast<long long>(left_out.size()))
    text += fmt::format("  ... and {} more\n", count - static_cast<long long>(left_out.size()));
  bool first = true;
  for (const auto& command : list_at(result, "commands"))
    text += fmt::format("{}{}\n", std::exchange(first, false) ? "next:  " : "   or: ",
                        command.is_string() ? clean(command.get<std::string>()) : "");
  return text;
}

}  // namespace agentvm::cli
