#pragma once
// The program around a manager whose operations are a test's own: everything else of it is the product's.

#include <csignal>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <string_view>

#include "cli/manager/service.hpp"
#include "vmm/base/log.hpp"

namespace agentvm::test {

/// Serves until the manager's end, and returns the program's status. `add` registers the operations. Call it with the
/// arguments that the client gives a manager.
inline int run_stand_in(manager::ManagerOptions options, int count, char** words,
                        const std::function<void(manager::Service&, const Paths&)>& add) {
  for (int i = 1; i + 1 < count; ++i)
    if (std::string_view(words[i]) == "--idle-seconds") options.idle = std::chrono::seconds(std::atoi(words[i + 1]));
  std::signal(SIGHUP, SIG_IGN);
  std::signal(SIGPIPE, SIG_IGN);
  auto lock = manager::acquire_manager_lock(options.paths);
  log::to_file(options.paths.manager_log());
  log::set_levels("*:debug");
  manager::Service service;
  add(service, options.paths);
  return manager::run_manager(service, options, std::move(lock));
}

/// `serve`, with what it throws on standard error.
inline int report_failure(const char* program, const std::function<int()>& serve) {
  try {
    return serve();
  } catch (const std::exception& problem) {
    std::cerr << program << ": " << problem.what() << "\n";
    return 3;
  }
}

}  // namespace agentvm::test
