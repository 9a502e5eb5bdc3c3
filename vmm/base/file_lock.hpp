#pragma once
// An advisory lock on a file (flock): released when the process ends, however it ends.

#include <filesystem>
#include <optional>

#include "vmm/base/fd.hpp"

namespace agentvm {

class FileLock {
 public:
  /// Nothing when another open file description holds it. The file is created 0600 and stays.
  static std::optional<FileLock> try_acquire(const std::filesystem::path& path);
  /// Polls every 20 ms; throws `timed_out` naming the holder's pid when the file records one.
  static FileLock acquire(const std::filesystem::path& path, Deadline deadline);
  /// Puts our pid into the file, for the message of whoever waits.
  void record_pid();
  /// The descriptor, for a child that is to keep the lock.
  int fd() const { return fd_.get(); }

 private:
  explicit FileLock(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace agentvm
