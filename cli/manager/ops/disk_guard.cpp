#include "cli/manager/ops/disk_guard.hpp"

#include "vmm/base/log.hpp"

namespace agentvm::manager {
namespace {

/// Less than this part of the reserve is worth nobody's pause.
constexpr std::uint64_t worth_acting = 8;
/// With this part of the reserve left nothing is weighed any more.
constexpr std::uint64_t last_part = 4;

std::uint64_t of(Shortage shortage, std::uint64_t bytes, std::uint64_t inodes) {
  return shortage == Shortage::inodes ? inodes : bytes;
}

}  // namespace

Shortage shortage_of(const DiskRoom& room, const DiskReserve& reserve) {
  if (room.bytes < reserve.bytes) return Shortage::bytes;
  return room.inodes < reserve.inodes ? Shortage::inodes : Shortage::none;
}

std::optional<std::size_t> greediest(const std::vector<DiskUse>& uses, Shortage shortage, const DiskReserve& reserve) {
  std::optional<std::size_t> worst, uncounted;
  const auto weight = [&](std::size_t i) { return of(shortage, uses[i].bytes, uses[i].inodes); };
  for (std::size_t i = 0; i < uses.size(); ++i) {
    if (!worst || weight(i) > weight(*worst)) worst = i;
    if (!uses[i].complete && (!uncounted || weight(i) > weight(*uncounted))) uncounted = i;
  }
  if (!worst) return std::nullopt;
  return weight(*worst) >= of(shortage, reserve.bytes, reserve.inodes) / worth_acting ? worst : uncounted;
}

DiskGuard::DiskGuard(Work work, milliseconds step) : work_(std::move(work)), step_(step), thread_([this] { run(); }) {}

DiskGuard::~DiskGuard() {
  stop();
}

void DiskGuard::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void DiskGuard::run() {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      if (changed_.wait_for(lock, step_, [this] { return stopping_; })) return;
    }
    try {
      look();
      complained_ = false;
    } catch (const std::exception& problem) {
      // The first of a row is news.
      if (!std::exchange(complained_, true)) log::warn("limits", "looking at the host's disk: {}", problem.what());
    }
  }
}

void DiskGuard::look() {
  const auto running = work_.running();
  if (running.empty()) return;
  const auto room = work_.room();
  const auto reserve = work_.reserve();
  const auto shortage = shortage_of(room, reserve);
  if (shortage == Shortage::none) {
    settled_.reset();
    return;
  }
  const auto left = of(shortage, room.bytes, room.inodes), wanted = of(shortage, reserve.bytes, reserve.inodes);
  const bool settled = settled_ && settled_->first == shortage && left + wanted / worth_acting > settled_->second;
  if (settled && left >= wanted / last_part) return;
  act(running, shortage, room, reserve);
}

void DiskGuard::act(const std::vector<SandboxName>& running, Shortage shortage, const DiskRoom& room,
                    const DiskReserve& reserve) {
  const auto last = of(shortage, reserve.bytes, reserve.inodes) / last_part;
  const auto left = [&](const DiskRoom& now) { return of(shortage, now.bytes, now.inodes); };
  if (left(room) < last) return pause_all(running, shortage, room);
  std::vector<DiskUse> uses;
  for (const auto& name : running) {
    uses.push_back(work_.use(name));
    if (const auto now = work_.room(); left(now) < last) return pause_all(running, shortage, now);
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
  }
  const auto worst = greediest(uses, shortage, reserve);
  if (!worst) log::warn("limits", "the host's disk is nearly full, and no guest has made it so");
  if (!worst || pause(running[*worst], shortage, room, uses[*worst])) settled_.emplace(shortage, left(room));
}

void DiskGuard::pause_all(const std::vector<SandboxName>& running, Shortage shortage, const DiskRoom& room) {
  for (const auto& name : running) pause(name, shortage, room, std::nullopt);
}

bool DiskGuard::pause(const SandboxName& name, Shortage shortage, const DiskRoom& room,
                      const std::optional<DiskUse>& use) {
  try {
    work_.pause(name, shortage, room, use);
    return true;
  } catch (const std::exception& problem) {
    log::warn("limits", "{} is not paused: {}", name.str(), problem.what());
    return false;
  }
}

}  // namespace agentvm::manager
