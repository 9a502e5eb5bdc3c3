#include "tests/fault/lifecycle/fake_machines.hpp"

#include <csignal>

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::test {

FakeMachines::~FakeMachines() {
  std::map<std::string, std::unique_ptr<Guest>> guests;
  {
    const std::lock_guard lock(mutex_);
    guests.swap(guests_);
  }
  for (auto& [domain, guest] : guests) guest->process.send_signal(SIGKILL);
}

void FakeMachines::start(const MachineSpec& spec, Start mode, Deadline deadline) {
  FakeHypervisor::start(spec, mode, deadline);
  const auto disk = fs::path(spec.disks.at(0).path.string() + ".guest");
  fs::create_directories(disk);
  auto pipe = make_pipe();
  ProcessSpec process;
  process.argv = {guest_, spec.agent_socket, spec.serial_socket, std::to_string(spec.ssh_port), disk};
  process.fds = {{1, pipe.second.get()}};
  process.die_with_parent = false;  // its parent is a thread
  auto guest = std::make_unique<Guest>(Guest{Process::spawn(process), {}});
  pipe.second.reset();
  char ready[16];
  if (read_some(pipe.first.get(), ready, sizeof ready, deadline) == 0)
    throw Error(ErrorCode::operation_failed, "the fake guest did not start");
  const int pid = guest->process.pidfd();
  guest->waiter = std::jthread([this, pid, domain = spec.domain](const std::stop_token& stop) {
    pollfd entry{pid, POLLIN, 0};
    while (!stop.stop_requested())
      if (::poll(&entry, 1, 50) > 0) return power_off(domain);
  });
  {
    const std::lock_guard lock(mutex_);
    guests_[spec.domain] = std::move(guest);
  }
  if (mode == Start::paused) signal(spec.domain, SIGSTOP);
}

/// The program and its one child: the guest's process 1.
void FakeMachines::signal(const std::string& domain, int number) {
  const std::lock_guard lock(mutex_);
  const auto found = guests_.find(domain);
  if (found == guests_.end()) return;
  for (const int child : child_processes(found->second->process.pid())) ::kill(child, number);
}

void FakeMachines::end(const std::string& domain) {
  std::unique_ptr<Guest> guest;
  {
    const std::lock_guard lock(mutex_);
    const auto found = guests_.find(domain);
    if (found == guests_.end()) return;
    guest = std::move(found->second);
    guests_.erase(found);
  }
  guest->waiter.request_stop();
  guest->process.send_signal(SIGKILL);
  guest->process.wait(Deadline::after(milliseconds(5'000)));
}

void FakeMachines::stop(const std::string& domain, Deadline deadline) {
  FakeHypervisor::stop(domain, deadline);
  end(domain);
}

void FakeMachines::request_shutdown(const std::string& domain, Deadline deadline) {
  FakeHypervisor::request_shutdown(domain, deadline);
  end(domain);
}

void FakeMachines::pause(const std::string& domain, Deadline deadline) {
  FakeHypervisor::pause(domain, deadline);
  signal(domain, SIGSTOP);
}

void FakeMachines::resume(const std::string& domain, Deadline deadline) {
  FakeHypervisor::resume(domain, deadline);
  signal(domain, SIGCONT);
}

}  // namespace agentvm::test
