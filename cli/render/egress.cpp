#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/render/render.hpp"

namespace agentvm::cli {
namespace {

Tone verdict_tone(const std::string& verdict) {
  return verdict == "allowed" ? Tone::good : verdict == "denied" ? Tone::bad : Tone::warning;
}

std::string target_of(const Json& row) {
  const auto host = text_at(row, "host", "");
  if (host.empty()) return "-";
  return fmt::format("{}:{}", host.find(':') == std::string::npos ? host : "[" + host + "]", number_at(row, "port"));
}

/// What decided: the rule, or why there was none.
std::string because(const Json& row) {
  const auto rule = text_at(row, "rule", ""), reason = text_at(row, "reason", "");
  if (text_at(row, "verdict") != "allowed" && !reason.empty()) return reason;
  return rule.empty() ? "-" : rule;
}

std::string bytes_of(const Json& row) {
  const auto up = number_at(row, "bytes_up"), down = number_at(row, "bytes_down");
  return up == 0 && down == 0 ? "-" : fmt::format("{}/{}", size(up), size(down));
}

}  // namespace

std::string render_egress_log(const Json& answer, const Style& style, unsigned width) {
  const auto& rows = list_at(answer, "rows");
  if (rows.empty()) return "";
  Table table({"LAST", "VERDICT", "HOST", "COUNT", "UP/DOWN", "BECAUSE"});
  for (const auto& row : rows) {
    const auto verdict = text_at(row, "verdict");
    table.add({{text_at(row, "time")},
               {verdict, verdict_tone(verdict)},
               {target_of(row)},
               {text_at(row, "count")},
               {bytes_of(row)},
               {because(row), Tone::dim}});
  }
  return table.text(style, width);
}

std::string render_egress_event(const Json& entry, const Style& style) {
  const auto verdict = text_at(entry, "verdict");
  const auto event = text_at(entry, "event");
  // An allowed connection is told when it opens; its end adds what passed.
  const auto shown = verdict == "allowed" && event == "end" ? std::string("closed") : verdict;
  return fmt::format("{}  {}  {}  {}{}\n", text_at(entry, "time"),
                     style.paint(verdict_tone(verdict), fmt::format("{:<9}", shown)), target_of(entry),
                     style.paint(Tone::dim, because(entry)),
                     event == "open" || bytes_of(entry) == "-" ? "" : "  " + bytes_of(entry));
}

std::string render_egress_check(const Json& answer, const Style& style) {
  const bool allowed = true_at(answer, "allowed");
  std::string text = fmt::format("{} {}\n", target_of(answer),
                                 allowed ? style.paint(Tone::good, "is allowed") : style.paint(Tone::bad, "is denied"));
  if (const auto rule = text_at(answer, "rule", ""); !rule.empty()) text += fmt::format("  by {}\n", rule);
  if (const auto reason = text_at(answer, "reason", ""); !reason.empty()) text += fmt::format("  {}\n", reason);
  std::vector<std::string> addresses;
  for (const auto& address : list_at(answer, "addresses"))
    if (address.is_string()) addresses.push_back(clean(address.get<std::string>()));
  if (!addresses.empty()) text += fmt::format("  resolves to {}\n", fmt::join(addresses, ", "));
  return text;
}

std::string render_egress_rules(const Json& egress, const Style& style) {
  std::vector<std::pair<std::string, std::string>> groups;  // in the order in which they come
  for (const auto& rule : list_at(egress, "rules")) {
    const auto heading = fmt::format("{} ({})", text_at(rule, "verdict"), text_at(rule, "origin"));
    auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& one) { return one.first == heading; });
    if (group == groups.end()) group = groups.insert(groups.end(), {heading, ""});
    auto text = text_at(rule, "rule");
    if (!true_at(rule, "effective")) text += " [denied]";
    group->second += (group->second.empty() ? "" : ", ") + text;
  }
  std::string text;
  for (const auto& [heading, rules] : groups)
    text += fmt::format("{}\n  {}\n", style.paint(Tone::strong, heading), rules);
  return text;
}

}  // namespace agentvm::cli
