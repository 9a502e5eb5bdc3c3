#include <future>

#include <unistd.h>

#include "cli/manager/server.hpp"
#include "vmm/base/log.hpp"

namespace agentvm::manager {

int run_manager(Service& service, const ManagerOptions& options, FileLock lock) {
  // The embedded hypervisor root is ours until the process is gone, so the lock is never released before that.
  static const FileLock* const held = new FileLock(std::move(lock));
  log::debug("manager", "lock held on descriptor {}", held->fd());
  auto server = std::make_unique<Server>(service, options);
  const bool in_order = server->run();
  // What the operations hold may hang (a library call); the next manager waits for our lock, so this has an end.
  std::promise<void> closed;
  auto done = closed.get_future();
  std::thread closer([&] {
    try {
      service.stopped();
    } catch (const std::exception& problem) {
      log::error("manager", "closing: {}", problem.what());
    }
    closed.set_value();
  });
  if (!in_order || done.wait_for(options.stop_limit) != std::future_status::ready) {
    log::error("manager", "ended without waiting for what still runs");
    ::_exit(1);
  }
  closer.join();
  server.reset();
  log::info("manager", "ended");
  return 0;
}

}  // namespace agentvm::manager
