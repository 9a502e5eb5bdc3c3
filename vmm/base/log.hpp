#pragma once
// One log per process. Thread-safe. Levels per area from AGENTVM_LOG ("sync:debug,*:info").

#include <filesystem>
#include <string_view>

#include <fmt/format.h>

namespace agentvm::log {

enum class Level { debug, info, warn, error, off };

/// Sends lines to `file` (0600; kept below 2 x 4 MiB by rotation) instead of standard error. Call once, before threads
/// start.
void to_file(const std::filesystem::path& file);
/// Throws `usage` naming the part that does not parse.
void set_levels(std::string_view spec);
bool enabled(std::string_view area, Level level);
/// `text` is cleaned like guest text: no line in a log can steer a terminal.
void write(std::string_view area, Level level, std::string_view text);

template <class... Args>
void debug(std::string_view area, fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(area, Level::debug)) write(area, Level::debug, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void info(std::string_view area, fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(area, Level::info)) write(area, Level::info, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void warn(std::string_view area, fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(area, Level::warn)) write(area, Level::warn, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void error(std::string_view area, fmt::format_string<Args...> format, Args&&... args) {
  write(area, Level::error, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace agentvm::log
