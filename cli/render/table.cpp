#include "cli/render/table.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "vmm/base/text.hpp"

namespace agentvm::cli {
namespace {

std::size_t columns_of(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string cut(const std::string& text, std::size_t columns) {
  if (columns_of(text) <= columns) return text;
  std::string result;
  std::size_t count = 0;
  for (const char c : text) {
    const bool starts = (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    if (starts && ++count >= columns) break;
    result += c;
  }
  return result + "~";
}

}  // namespace

std::string Table::text(const Style& style, unsigned width) const {
  std::vector<std::size_t> widths;
  for (const auto& heading : headings_) widths.push_back(columns_of(heading));
  for (const auto& row : rows_)
    for (std::size_t i = 0; i < row.size() && i < widths.size(); ++i)
      widths[i] = std::max(widths[i], columns_of(row[i].text));
  std::string result;
  const auto line = [&](const std::vector<Cell>& row) {
    std::size_t used = 0;
    for (std::size_t i = 0; i < widths.size(); ++i) {
      const Cell empty;
      const auto& cell = i < row.size() ? row[i] : empty;
      const bool last = i + 1 == widths.size();
      constexpr std::size_t least = 8;
      const auto shown = last && width > used ? cut(cell.text, std::max<std::size_t>(width - used, least)) : cell.text;
      result += style.paint(cell.tone, shown);
      if (!last) result.append(widths[i] - columns_of(shown) + 2, ' ');
      used += widths[i] + 2;
    }
    while (!result.empty() && result.back() == ' ') result.pop_back();
    result += '\n';
  };
  std::vector<Cell> headings;
  for (const auto& heading : headings_) headings.push_back({heading, Tone::strong});
  line(headings);
  for (const auto& row : rows_) line(row);
  return result;
}

std::string labelled(const std::vector<std::pair<std::string, std::string>>& rows, const Style& style) {
  std::size_t width = 0;
  for (const auto& [label, value] : rows) width = std::max(width, columns_of(label));
  std::string result;
  for (const auto& [label, value] : rows)
    result += fmt::format("{}{}{}\n", style.paint(Tone::dim, label + ":"),
                          std::string(width - columns_of(label) + 2, ' '), value);
  return result;
}

std::string clean(std::string_view text) {
  return clean_guest_text(text);
}

std::string cleaned_lines(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    auto line = text.substr(0, end);
    while (line.ends_with('\r')) line.remove_suffix(1);
    result += clean_guest_text(line, Newlines::escape, 65536) + "\n";
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return result;
}

std::string text_at(const Json& object, const std::string& key, const std::string& fallback) {
  if (!object.is_object() || !object.contains(key) || object[key].is_null()) return fallback;
  const auto& value = object[key];
  if (value.is_string())
    return value.get_ref<const std::string&>().empty() ? fallback : clean(value.get_ref<const std::string&>());
  return clean(dump_json(value));
}

std::int64_t number_at(const Json& object, const std::string& key, std::int64_t fallback) {
  return object.is_object() && object.contains(key) && object[key].is_number() ? object[key].get<std::int64_t>()
                                                                               : fallback;
}

bool true_at(const Json& object, const std::string& key) {
  return object.is_object() && object.contains(key) && object[key].is_boolean() && object[key].get<bool>();
}

const Json& list_at(const Json& object, const std::string& key) {
  static const Json none = Json::array();
  return object.is_object() && object.contains(key) && object[key].is_array() ? object[key] : none;
}

const Json& object_at(const Json& object, const std::string& key) {
  static const Json none = Json::object();
  return object.is_object() && object.contains(key) && object[key].is_object() ? object[key] : none;
}

std::string duration(std::int64_t seconds) {
  constexpr std::int64_t minute = 60, hour = 3600, day = 86400;
  if (seconds < 0) return "-";
  if (seconds >= day) return fmt::format("{}d {}h", seconds / day, seconds % day / hour);
  if (seconds >= hour) return fmt::format("{}h {}m", seconds / hour, seconds % hour / minute);
  if (seconds >= minute) return fmt::format("{}m {}s", seconds / minute, seconds % minute);
  return fmt::format("{}s", seconds);
}

std::string size(std::int64_t bytes) {
  if (bytes < 0) return "-";
  constexpr const char* units[] = {"", "K", "M", "G", "T", "P"};
  constexpr double step = 1024;
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= step && unit + 1 < std::size(units)) {
    value /= step;
    ++unit;
  }
  const bool whole = value >= 10 || value == static_cast<double>(static_cast<std::int64_t>(value));
  return whole ? fmt::format("{:.0f}{}", value, units[unit]) : fmt::format("{:.1f}{}", value, units[unit]);
}

Tone state_tone(const std::string& state) {
  if (state == "running") return Tone::good;
  if (state == "failed") return Tone::bad;
  if (state == "stopped" || state == "defined") return Tone::dim;
  return Tone::warning;
}

std::string counted(std::int64_t count, const std::string& singular) {
  return fmt::format("{} {}{}", count, singular, count == 1 ? "" : "s");
}

}  // namespace agentvm::cli
