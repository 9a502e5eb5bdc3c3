#pragma once
// The serial consoles of all guests, each into a bounded pair of files: serial.log and, before it, serial.log.1.
// One thread for all of them. A console that floods is read at `serial_rate_bytes` a second and no faster: the guest
// waits, not we.

#include <condition_variable>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "vmm/base/fd.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::guest {

inline constexpr std::size_t serial_file_limit_bytes = 1u << 20;  ///< per file; two files per guest
inline constexpr unsigned serial_rate_bytes = 512u << 10;         ///< a second, and as much in a burst

/// Appends to `folder`/serial.log; when that is full it becomes serial.log.1. Files are 0600 and never followed as
/// links. Not thread-safe.
class SerialFile {
 public:
  explicit SerialFile(fs::path folder);
  /// Throws when the disk refuses.
  void append(std::string_view bytes);
  /// The last `limit_bytes` of both files together; raw guest bytes.
  static std::string tail(const fs::path& folder, std::size_t limit_bytes);

 private:
  void open();
  fs::path folder_;
  UniqueFd fd_;
  std::size_t size_ = 0;
};

/// Thread-safe.
class SerialLogs {
 public:
  SerialLogs();
  ~SerialLogs();

  /// Connects to the serial socket and keeps its output below `folder` until the socket closes or `remove`. Replaces
  /// one of that name. Throws `not_found` when nobody listens.
  void add(const std::string& name, const fs::path& socket, const fs::path& folder);
  void remove(const std::string& name);
  /// What came last from `name` since it was added, also after its machine ended; raw guest bytes. Empty for an unknown
  /// name.
  std::string tail(const std::string& name, std::size_t limit_bytes) const;

 private:
  struct Source {
    UniqueFd fd;
    SerialFile file;
    double tokens;
    SteadyTime refilled;
  };
  struct Kept {
    fs::path folder;
    std::size_t bytes = 0;  ///< since `add`
  };
  void run();
  /// Milliseconds until the next source may be read again; -1: none waits.
  int drain(const std::map<std::string, short>& ready);
  void poke();

  mutable std::mutex mutex_;  // guards what follows but wake_ and thread_
  std::map<std::string, Source> sources_;
  std::map<std::string, Kept> kept_;
  bool stopping_ = false;
  UniqueFd wake_;
  std::thread thread_;
};

}  // namespace agentvm::guest
