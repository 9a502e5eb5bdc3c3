#include "cli/replay/recording.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>

#include <fmt/format.h>

#include "cli/replay/terminal_filter.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::cli {
namespace {

constexpr std::size_t segment_limit_bytes = 8u << 20;  // the manager keeps smaller ones
constexpr std::string_view segment_end = ".cast";
constexpr double longest_seconds = 10.0 * 365 * 86'400;
constexpr unsigned widest = 4096;

/// Milliseconds since 1970 of "0001764433000123.cast"; nothing for another name.
std::optional<std::int64_t> segment_begin(const std::string& name) {
  std::int64_t value = 0;
  if (!name.ends_with(segment_end)) return std::nullopt;
  const auto* const end = name.data() + name.size() - segment_end.size();
  const auto [rest, error] = std::from_chars(name.data(), end, value);
  return error == std::errc() && rest == end && value >= 0 ? std::optional(value) : std::nullopt;
}

/// "120x40"
bool parse_size(const std::string& text, unsigned& columns, unsigned& rows) {
  const auto x = text.find('x');
  const auto* const end = text.data() + text.size();
  if (x == text.npos) return false;
  const auto first = std::from_chars(text.data(), text.data() + x, columns);
  const auto second = std::from_chars(text.data() + x + 1, end, rows);
  return first.ec == std::errc() && first.ptr == text.data() + x && second.ec == std::errc() && second.ptr == end &&
         columns > 0 && rows > 0 && columns <= widest && rows <= widest;
}

void each_line(std::string_view text, const std::function<void(std::string_view)>& take) {
  for (std::size_t start = 0; start < text.size();) {
    const auto end = text.find('\n', start);
    if (end == text.npos) return;  // it is still being written
    take(text.substr(start, end - start));
    start = end + 1;
  }
}

}  // namespace

std::optional<RecordedEvent> parse_recorded_event(std::string_view line) {
  if (!line.starts_with('[')) return std::nullopt;
  try {
    const auto json = parse_json(line, "event");
    constexpr std::size_t parts = 3;
    if (!json.is_array() || json.size() != parts || !json[0].is_number() || !json[1].is_string() ||
        !json[2].is_string())
      return std::nullopt;
    RecordedEvent event;
    event.at = json[0].get<double>();
    if (!std::isfinite(event.at) || event.at < 0 || event.at > longest_seconds) return std::nullopt;
    const auto kind = json[1].get<std::string>();
    auto data = json[2].get<std::string>();
    if (kind == "o" && !data.empty())
      event.data = std::move(data);
    else if (kind != "r" || !parse_size(data, event.columns, event.rows))
      return std::nullopt;
    return event;
  } catch (const Error&) {
    return std::nullopt;
  }
}

void add_segment(Recording& recording, std::int64_t begun_ms, std::string_view text) {
  const bool first = recording.begun_ms == 0 && recording.events.empty();
  if (first) recording.begun_ms = begun_ms;
  const double offset = std::min(static_cast<double>(begun_ms - recording.begun_ms) / 1000, longest_seconds);
  each_line(text, [&](std::string_view line) {
    auto event = parse_recorded_event(line);
    if (!event) return;
    event->at = std::max(event->at + offset, recording.seconds());
    if (event->data.empty() && recording.events.empty()) {
      recording.columns = event->columns;
      recording.rows = event->rows;
    } else {
      recording.events.push_back(std::move(*event));
    }
  });
}

std::vector<fs::path> recorded_segments(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code absent;
  for (const auto& entry : fs::directory_iterator(folder, absent))
    if (segment_begin(entry.path().filename().string())) found.push_back(entry.path());
  std::sort(found.begin(), found.end());
  return found;
}

Recording read_recording(const fs::path& folder) {
  Recording recording;
  for (const auto& path : recorded_segments(folder))
    if (const auto text = read_file_if_exists(path, segment_limit_bytes))
      add_segment(recording, *segment_begin(path.filename().string()), *text);
  return recording;
}

std::string RecordingTail::read() {
  std::string printed;
  for (const auto& path : recorded_segments(folder_)) {
    const auto text = read_file_if_exists(path, segment_limit_bytes);
    auto& position = read_[path.filename().string()];
    if (!text || text->size() <= position) continue;
    each_line(std::string_view(*text).substr(position), [&](std::string_view line) {
      position += line.size() + 1;
      if (const auto event = parse_recorded_event(line)) printed += event->data;
    });
  }
  return printed;
}

std::string asciicast_header(const Recording& recording, const std::string& title) {
  return dump_json({{"version", 2},
                    {"width", recording.columns},
                    {"height", recording.rows},
                    {"timestamp", recording.begun_ms / 1000},
                    {"title", title}});
}

Json asciicast_events(const Recording& recording) {
  constexpr double microseconds = 1e6;
  TerminalFilter filter;
  auto events = Json::array();
  for (const auto& event : recording.events) {
    const double at = std::round(event.at * microseconds) / microseconds;
    if (event.data.empty())
      events.push_back({at, "r", fmt::format("{}x{}", event.columns, event.rows)});
    else if (auto shown = filter.feed(event.data); !shown.empty())
      events.push_back({at, "o", std::move(shown)});
  }
  return events;
}

std::vector<double> replay_waits(const Recording& recording, double speed, double idle_limit) {
  std::vector<double> waits;
  double before = recording.events.empty() ? 0 : recording.events.front().at;
  for (const auto& event : recording.events) {
    auto gap = event.at - before;
    if (idle_limit > 0) gap = std::min(gap, idle_limit);
    waits.push_back(gap / speed);
    before = event.at;
  }
  return waits;
}

}  // namespace agentvm::cli
