#include "cli/manager/ops/hang_watch.hpp"

#include <condition_variable>
#include <mutex>

#include "guest/control/console.hpp"
#include "vmm/base/log.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds turn{1'000};
constexpr milliseconds stop_limit{60'000};
constexpr std::size_t report_bytes = 16u << 10;

}  // namespace

HangWatch::HangWatch(Core& core, const SandboxRecord& record, std::shared_ptr<Hypervisor> hypervisor)
    : core_(core), name_(record.name), domain_(record.domain), hypervisor_(std::move(hypervisor)) {
  if (record.accelerator == "tcg") thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

bool HangWatch::end() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
  return found_;
}

void HangWatch::run(const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any wake;
  std::unique_lock lock(mutex);
  while (!wake.wait_for(lock, stop, turn, [&] { return stop.stop_requested(); })) try {
      if (!guest::cpus_hang(core_.serial().tail(name_.str(), report_bytes))) continue;
      found_ = true;
      core_.watch().remove(name_.str());  // its share ends with it
      hypervisor_->stop(domain_, Deadline::after(stop_limit));
      return;
    } catch (const std::exception& error) {
      log::warn("start", "{}: a machine that hangs: {}", name_.str(), error.what());
    }
}

}  // namespace agentvm::manager
