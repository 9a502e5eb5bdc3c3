#include "cli/manager/ops/process_watch.hpp"

#include <csignal>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/error.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/process.hpp"

namespace agentvm::manager {
namespace {

/// A pidfd for the process that has these start ticks; empty when it is gone. Opened first, compared after: a pid that
/// was recycled in between has other ticks.
UniqueFd open_recorded(pid_t pid, unsigned long long start_ticks) {
  if (pid <= 0) return UniqueFd();
  UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd || process_start_ticks(pid) != start_ticks) return UniqueFd();
  ::fcntl(pidfd.get(), F_SETFD, FD_CLOEXEC);
  return pidfd;
}

}  // namespace

ProcessWatch::ProcessWatch() : wake_(make_pipe()) {
  set_nonblocking(wake_.first.get(), true);
  set_nonblocking(wake_.second.get(), true);
  thread_ = std::thread([this] { run(); });
}

ProcessWatch::~ProcessWatch() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake();
  thread_.join();
}

void ProcessWatch::wake() {
  [[maybe_unused]] const auto ignored = ::write(wake_.second.get(), "w", 1);
}

bool ProcessWatch::add(const std::string& key, pid_t pid, unsigned long long start_ticks,
                       std::function<void()> on_exit) {
  auto pidfd = open_recorded(pid, start_ticks);
  if (!pidfd) return false;
  {
    const std::lock_guard lock(mutex_);
    entries_.insert_or_assign(key, Entry{pid, std::move(pidfd), std::move(on_exit)});
  }
  wake();
  return true;
}

void ProcessWatch::remove(const std::string& key) {
  const std::lock_guard lock(mutex_);
  entries_.erase(key);
}

void ProcessWatch::run() {
  for (;;) {
    std::vector<pollfd> polls{{wake_.first.get(), POLLIN, 0}};
    std::vector<std::string> keys{""};
    std::vector<UniqueFd> held;  // duplicates, so that remove() may close its own while we poll
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
      for (const auto& [key, entry] : entries_) {
        held.push_back(duplicate(entry.pidfd.get()));
        polls.push_back({held.back().get(), POLLIN, 0});
        keys.push_back(key);
      }
    }
    ::poll(polls.data(), polls.size(), -1);
    char drain[64];
    while (::read(wake_.first.get(), drain, sizeof drain) > 0) {
    }
    for (std::size_t i = 1; i < polls.size(); ++i) {
      if (!(polls[i].revents & POLLIN)) continue;
      std::function<void()> callback;
      {
        const std::lock_guard lock(mutex_);
        const auto found = entries_.find(keys[i]);
        if (found == entries_.end()) continue;
        ::waitpid(found->second.pid, nullptr, WNOHANG);  // reaps it when it was our child; harmless otherwise
        callback = std::move(found->second.on_exit);
        entries_.erase(found);
      }
      try {
        if (callback) callback();
      } catch (const std::exception& problem) {
        log::error("watch", "a callback for {} failed: {}", keys[i], problem.what());
      }
    }
  }
}

}  // namespace agentvm::manager
