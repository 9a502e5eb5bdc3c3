// agentvm-manager: the composition root. Started by the client (cli/client/spawn.cpp) or by `agentvm manager run`.

#include <charconv>
#include <csignal>
#include <cstdlib>
#include <iostream>

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/manager/ops/operations.hpp"
#include "vmm/base/log.hpp"
#include "vmm/config.hpp"

namespace {

using namespace agentvm;

struct Arguments {
  milliseconds idle{60'000};
  bool foreground = false;  ///< log to standard error
};

Arguments parse(int count, char** words) {
  Arguments arguments;
  for (int i = 1; i < count; ++i) {
    const std::string_view word = words[i];
    if (word == "--foreground") {
      arguments.foreground = true;
    } else if (word == "--idle-seconds" && i + 1 < count) {
      const std::string_view text = words[++i];
      unsigned seconds = 0;
      const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), seconds);
      if (problem != std::errc() || end != text.data() + text.size() || seconds > 7 * 24 * 3600)
        throw Error(ErrorCode::usage,
                    fmt::format("--idle-seconds: '{}' is not a number of seconds up to a week", text));
      arguments.idle = std::chrono::seconds(seconds);
    } else {
      throw Error(ErrorCode::usage, fmt::format("unknown argument '{}'", word), "agentvm help manager run");
    }
  }
  return arguments;
}

/// Connections of dev servers and streams into guests take two or three descriptors each; the usual soft limit of 1024
/// is meant for programs that still call select(2).
void raise_descriptor_limit() {
  constexpr rlim_t wanted = 16'384;
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted) return;
  limit.rlim_cur = std::min(limit.rlim_max, wanted);
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

/// A core file would hold what is read of the user's secrets. Whoever this starts inherits it.
void write_no_core_files() {
  constexpr rlimit none{0, 0};
  if (::setrlimit(RLIMIT_CORE, &none) != 0) throw_errno("turning core files off");
}

/// The variable, else what the user's file says. A file that is not in order is the next command's to name.
void set_log_levels(const Paths& paths) {
  if (const char* levels = std::getenv("AGENTVM_LOG")) return log::set_levels(levels);
  try {
    ConfigInput input;
    input.user = read_config_file(paths.config_file);
    if (const auto levels = resolve_config(input).text("log.levels"); !levels.empty()) log::set_levels(levels);
  } catch (const Error& error) {
    log::warn("manager", "the configuration is not in order: {}", error.what());
  }
}

int serve(const Arguments& arguments) {
  manager::ManagerOptions options;
  options.paths = resolve_paths();
  options.idle = arguments.idle;
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGHUP, SIG_IGN);
  // The umask stays the user's: sync writes into their work tree. What is ours sits in folders that are closed (0700).
  auto lock = manager::acquire_manager_lock(options.paths);
  if (!arguments.foreground) log::to_file(options.paths.manager_log());
  set_log_levels(options.paths);
  raise_descriptor_limit();
  write_no_core_files();
  manager::Service service;
  manager::register_operations(service, options.paths);
  return manager::run_manager(service, options, std::move(lock));
}

}  // namespace

int main(int count, char** words) {
  try {
    return serve(parse(count, words));
  } catch (const agentvm::Error& error) {
    std::cerr << "agentvm-manager: " << error.what() << "\n";
    if (!error.hint().empty()) std::cerr << "  try: " << error.hint() << "\n";
    agentvm::log::error("manager", "{}", error.what());
    return agentvm::exit_code(error.code());
  } catch (const std::exception& problem) {
    std::cerr << "agentvm-manager: " << problem.what() << "\n";
    agentvm::log::error("manager", "{}", problem.what());
    return agentvm::exit_code(agentvm::ErrorCode::operation_failed);
  }
}
