#include <fmt/format.h>

#include "cli/render/render.hpp"

namespace agentvm::cli {
namespace {

std::string joined(const Json& items) {
  std::string text;
  for (const auto& item : items)
    if (item.is_string()) text += (text.empty() ? "" : " ") + clean(item.get<std::string>());
  return text;
}

std::string recipe_text(const Json& recipe) {
  const auto mask = joined(list_at(recipe, "mask"));
  return fmt::format("  {}: {} with {}, disk {}; packages: {}{}\n", text_at(recipe, "path"), text_at(recipe, "suite"),
                     text_at(recipe, "kernel"), size(number_at(recipe, "disk_bytes")),
                     joined(list_at(recipe, "packages")), mask.empty() ? "" : "; never started: " + mask);
}

}  // namespace

std::string render_trust(const Json& answer, const Style& style) {
  const auto& keys = list_at(answer, "keys");
  if (keys.empty()) return "";
  Table table({"KEY", "STATE", "NOW", "ASKED FOR"});
  std::string recipes;
  for (const auto& row : keys) {
    const auto state = text_at(row, "state");
    table.add({{text_at(row, "name")},
               {state, state == "trusted" ? Tone::good : Tone::warning},
               {text_at(object_at(row, "in_force"), "text")},
               {text_at(row, "text")}});
    if (row.contains("recipe")) recipes += recipe_text(row["recipe"]);
  }
  return table.text(style) + recipes;
}

}  // namespace agentvm::cli
