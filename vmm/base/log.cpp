#include "vmm/base/log.hpp"

#include <map>
#include <memory>
#include <shared_mutex>

#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include "vmm/base/error.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::log {
namespace {

constexpr std::size_t log_file_limit_bytes = 4u << 20;

struct State {
  std::shared_mutex mutex;  // guards levels and fallback
  std::map<std::string, Level, std::less<>> levels;
  Level fallback = Level::warn;
  std::shared_ptr<spdlog::logger> logger =
      std::make_shared<spdlog::logger>("agentvm", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  State() {
    logger->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l %v", spdlog::pattern_time_type::utc);
    logger->set_level(spdlog::level::debug);
    logger->flush_on(spdlog::level::debug);
  }
};
State& state() {
  static State instance;
  return instance;
}

Level parse_level(std::string_view text) {
  constexpr std::pair<std::string_view, Level> names[] = {{"debug", Level::debug},
                                                          {"info", Level::info},
                                                          {"warn", Level::warn},
                                                          {"error", Level::error},
                                                          {"off", Level::off}};
  for (const auto& [name, level] : names)
    if (name == text) return level;
  throw Error(ErrorCode::usage,
              fmt::format("log level '{}' is not one of debug, info, warn, error, off",
                          clean_guest_text(text, Newlines::escape, 80)),
              "AGENTVM_LOG=sync:debug,*:info");
}

}  // namespace

void to_file(const std::filesystem::path& file) {
  // Rotation makes a new file each time, with the umask's mode.
  spdlog::file_event_handlers handlers;
  handlers.after_open = [](const spdlog::filename_t&, std::FILE* opened) { ::fchmod(::fileno(opened), 0600); };
  auto sink =
      std::make_shared<spdlog::sinks::rotating_file_sink_mt>(file.string(), log_file_limit_bytes, 1, false, handlers);
  auto& s = state();
  const std::unique_lock lock(s.mutex);
  s.logger->sinks() = {sink};
  s.logger->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l %v", spdlog::pattern_time_type::utc);
  if (s.fallback > Level::info) s.fallback = Level::info;
}

void set_levels(std::string_view spec) {
  auto& s = state();
  const std::unique_lock lock(s.mutex);
  while (!spec.empty()) {
    const auto comma = std::min(spec.find(','), spec.size());
    const auto part = spec.substr(0, comma);
    spec.remove_prefix(std::min(comma + 1, spec.size()));
    const auto colon = part.find(':');
    if (colon == std::string_view::npos || part.substr(0, colon) == "*")
      s.fallback = parse_level(colon == std::string_view::npos ? part : part.substr(colon + 1));
    else
      s.levels[std::string(part.substr(0, colon))] = parse_level(part.substr(colon + 1));
  }
}

bool enabled(std::string_view area, Level level) {
  auto& s = state();
  const std::shared_lock lock(s.mutex);
  const auto found = s.levels.find(area);
  return level >= (found == s.levels.end() ? s.fallback : found->second);
}

void write(std::string_view area, Level level, std::string_view text) {
  const auto line = fmt::format("{}: {}", area, clean_guest_text(text));
  constexpr spdlog::level::level_enum map[] = {spdlog::level::debug, spdlog::level::info, spdlog::level::warn,
                                               spdlog::level::err, spdlog::level::off};
  state().logger->log(map[static_cast<int>(level)], "{}", line);
}

}  // namespace agentvm::log
