#include "tests/support/fake_hypervisor.hpp"

#include <fmt/format.h>

#include "vmm/base/error.hpp"
#include "vmm/domain_xml.hpp"

namespace agentvm::test {

void FakeHypervisor::enter(const std::string& verb, const std::string& domain, Deadline deadline) {
  const std::lock_guard lock(mutex_);
  calls_.push_back(domain.empty() ? verb : verb + " " + domain);
  if (deadline.expired()) throw Error(ErrorCode::timed_out, verb + " " + domain + " did not finish in time");
  if (calls_until_failure_ > 0 && --calls_until_failure_ == 0)
    throw Error(ErrorCode::operation_failed, verb + " " + domain + " was made to fail");
}

FakeHypervisor::Machine& FakeHypervisor::need(const std::string& domain) {
  const auto found = machines_.find(domain);
  if (found == machines_.end()) throw Error(ErrorCode::not_found, fmt::format("machine {} does not run", domain));
  return found->second;
}

void FakeHypervisor::emit(const std::string& domain, Event::Kind kind) {
  const std::lock_guard lock(events_);
  if (callback_) callback_({domain, kind});
}

void FakeHypervisor::start(const MachineSpec& spec, Start mode, Deadline deadline) {
  check_machine_spec(spec);
  enter("start", spec.domain, deadline);
  const std::lock_guard lock(mutex_);
  const auto state = mode == Start::paused ? DomainState::paused : DomainState::running;
  if (!machines_.emplace(spec.domain, Machine{spec, state}).second)
    throw Error(ErrorCode::wrong_state, fmt::format("machine {} runs already", spec.domain));
}

void FakeHypervisor::stop(const std::string& domain, Deadline deadline) {
  enter("stop", domain, deadline);
  std::unique_lock lock(mutex_);
  const bool ran = machines_.erase(domain) > 0;
  lock.unlock();
  if (ran) emit(domain, Event::Kind::destroyed);
}

void FakeHypervisor::request_shutdown(const std::string& domain, Deadline deadline) {
  enter("request_shutdown", domain, deadline);
  {
    const std::lock_guard lock(mutex_);
    need(domain);
    machines_.erase(domain);
  }
  emit(domain, Event::Kind::stopped);
}

void FakeHypervisor::pause(const std::string& domain, Deadline deadline) {
  enter("pause", domain, deadline);
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(need(domain).state, DomainState::paused) == DomainState::paused) return;
  }
  emit(domain, Event::Kind::paused);
}

void FakeHypervisor::resume(const std::string& domain, Deadline deadline) {
  enter("resume", domain, deadline);
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(need(domain).state, DomainState::running) == DomainState::running) return;
  }
  emit(domain, Event::Kind::resumed);
}

std::optional<DomainInfo> FakeHypervisor::find(const std::string& domain, Deadline deadline) {
  enter("find", domain, deadline);
  const std::lock_guard lock(mutex_);
  const auto found = machines_.find(domain);
  if (found == machines_.end()) return std::nullopt;
  return DomainInfo{domain, found->second.spec.id, found->second.state, found->second.spec.home};
}

std::vector<DomainInfo> FakeHypervisor::list(Deadline deadline) {
  enter("list", "", deadline);
  const std::lock_guard lock(mutex_);
  std::vector<DomainInfo> result;
  for (const auto& [domain, machine] : machines_)
    result.push_back({domain, machine.spec.id, machine.state, machine.spec.home});
  return result;
}

void FakeHypervisor::save_state(const std::string&, const MachineState&, Deadline) {
  throw Error(ErrorCode::host_lacks, "fake:/// cannot do this to a machine");
}

void FakeHypervisor::load_state(const std::string&, const MachineState&, Deadline) {
  throw Error(ErrorCode::host_lacks, "fake:/// cannot do this to a machine");
}

void FakeHypervisor::plug(const std::string&, const ShareSpec&, Deadline) {
  throw Error(ErrorCode::host_lacks, "fake:/// cannot do this to a machine");
}

std::optional<int> FakeHypervisor::pid(const std::string& domain, Deadline deadline) {
  enter("pid", domain, deadline);
  return std::nullopt;
}

void FakeHypervisor::on_event(std::function<void(const Event&)> callback) {
  const std::lock_guard lock(events_);
  callback_ = std::move(callback);
}

void FakeHypervisor::crash(const std::string& domain) {
  {
    const std::lock_guard lock(mutex_);
    need(domain);
    machines_.erase(domain);
  }
  emit(domain, Event::Kind::crashed);
}

void FakeHypervisor::power_off(const std::string& domain) {
  {
    const std::lock_guard lock(mutex_);
    if (machines_.erase(domain) == 0) return;
  }
  emit(domain, Event::Kind::stopped);
}

void FakeHypervisor::fail_call(unsigned nth) {
  const std::lock_guard lock(mutex_);
  calls_until_failure_ = nth;
}

std::vector<std::string> FakeHypervisor::calls() const {
  const std::lock_guard lock(mutex_);
  return calls_;
}

MachineSpec FakeHypervisor::spec_of(const std::string& domain) const {
  const std::lock_guard lock(mutex_);
  return machines_.at(domain).spec;
}

}  // namespace agentvm::test
