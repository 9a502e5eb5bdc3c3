#pragma once
// Keeps guests from filling the host's disk: their workspaces are folders there, and grow as they like.

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "vmm/base/clock.hpp"
#include "vmm/base/names.hpp"
#include "vmm/limits.hpp"

namespace agentvm::manager {

struct DiskReserve {
  std::uint64_t bytes = 0, inodes = 0;
};

enum class Shortage { none, bytes, inodes };
/// Of which of the two less is left than the reserve.
Shortage shortage_of(const DiskRoom& room, const DiskReserve& reserve);

/// What a guest put on the host's disk since it was started.
struct DiskUse {
  std::uint64_t bytes = 0, inodes = 0;
  bool complete = true;  ///< false: it is at least that much, and could not be counted in time
};
/// The index of the guest to blame for this shortage: who put most there, as far as it was counted, or, where that is
/// less than an eighth of the reserve, one that could not be counted. Nothing: somebody else fills the disk.
std::optional<std::size_t> greediest(const std::vector<DiskUse>& uses, Shortage shortage, const DiskReserve& reserve);

/// One thread. While there is less room than the reserve, the greediest guest is paused, and the next one only when the
/// room has gone on shrinking by an eighth of the reserve. With less than a quarter of the reserve left everyone is
/// paused at once. Thread-safe.
class DiskGuard {
 public:
  struct Work {
    std::function<std::vector<SandboxName>()> running;  ///< whose CPUs run; nothing more is asked while it is empty
    std::function<DiskRoom()> room;
    std::function<DiskReserve()> reserve;
    std::function<DiskUse(const SandboxName&)> use;  ///< may take seconds
    /// `use`: what the guest is blamed for; nothing: everyone was paused. What it throws is logged, and tried again.
    std::function<void(const SandboxName&, Shortage, const DiskRoom&, const std::optional<DiskUse>&)> pause;
  };
  explicit DiskGuard(Work work, milliseconds step = milliseconds(500));
  ~DiskGuard();
  DiskGuard(const DiskGuard&) = delete;
  DiskGuard& operator=(const DiskGuard&) = delete;

  /// Looks no more, after the look that goes on.
  void stop();

 private:
  void run();
  void look();
  void act(const std::vector<SandboxName>& running, Shortage shortage, const DiskRoom& room,
           const DiskReserve& reserve);
  void pause_all(const std::vector<SandboxName>& running, Shortage shortage, const DiskRoom& room);
  bool pause(const SandboxName& name, Shortage shortage, const DiskRoom& room, const std::optional<DiskUse>& use);

  const Work work_;
  const milliseconds step_;
  std::mutex mutex_;  // guards stopping_
  std::condition_variable changed_;
  bool stopping_ = false;
  /// Of the thread: what was short, and the room left when something was last done about it.
  std::optional<std::pair<Shortage, std::uint64_t>> settled_;
  bool complained_ = false;  // of the thread
  std::thread thread_;
};

}  // namespace agentvm::manager
