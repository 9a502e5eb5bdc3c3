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
  std::optional<std::size_t> worst;
  const auto weight = [&](std::size_t i) {
    // What could not be counted in time has more files than any other.
    return std::pair(!uses[i].complete, of(shortage, uses[i].bytes, uses[i].inodes));
  };
  for (std::size_t i = 0; i < uses.size(); ++i)
    if (!worst || weight(i) > weight(*worst)) worst = i;
  if (!worst) return std::nullopt;
  const auto least = of(shortage, reserve.bytes, reserve.inodes) / worth_acting;
  return !uses[*worst].complete || weight(*worst).second >= least ? worst : std::nullopt;
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
  if (left >= wanted / last_part && settled_ && left + wanted / worth_acting > *settled_) return;
  act(running, shortage, room, reserve);
}

void DiskGuard::act(const std::vector<SandboxName>& running, Shortage shortage, const DiskRoom& room,
                    const DiskReserve& reserve) {
  const auto left = of(shortage, room.bytes, room.inodes);
  if (left < of(shortage, reserve.bytes, reserve.inodes) / last_part) {
    for (const auto& name : running) pause(name, shortage, room, std::nullopt);
    return;
  }
  std::vector<DiskUse> uses;
  for (const auto& name : running) uses.push_back(work_.use(name));
  const auto worst = greediest(uses, shortage, reserve);
  if (!worst) log::warn("limits", "the host's disk is nearly full, and no guest has made it so");
  if (!worst || pause(running[*worst], shortage, room, uses[*worst])) settled_ = left;
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
