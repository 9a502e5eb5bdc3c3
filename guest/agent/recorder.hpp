#pragma once
// `agentvm-guest record`: what a terminal session prints, with times, in a ring of segments
// (guest/protocol/recording.hpp). It runs as the agent's user, is fed by tmux, and never keeps it waiting for long:
// what cannot be written, on a full disk say, is lost.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "vmm/base/fd.hpp"

namespace agentvm::guest::agent {

/// The newest segments of one session. Not thread-safe. Times are milliseconds since 1970 and may go back: what is
/// written never does.
class Recorder {
 public:
  /// Makes the folder. Throws when that cannot be done.
  explicit Recorder(std::filesystem::path folder);
  /// The terminal's size, from here on.
  void resize(unsigned columns, unsigned rows, std::int64_t now_ms);
  /// Bytes may be cut anywhere: a character that is not whole yet waits for the next call.
  void print(std::string_view bytes, std::int64_t now_ms);

 private:
  void write(std::int64_t now_ms, const char* kind, std::string_view data);
  void begin_segment(std::int64_t now_ms);
  void remove_old(std::int64_t now_ms);

  const std::filesystem::path folder_;
  UniqueFd file_;
  std::string rest_;  // the beginning of a character
  std::int64_t begun_ms_ = 0, last_ms_ = 0;
  std::size_t size_ = 0;
  unsigned columns_ = 80, rows_ = 24;
};

/// Records what comes from `in` until it ends. `terminal`: the path of the session's terminal, asked for its size. One
/// recorder per folder: another one waits a moment for the first to end, then gives up. Returns an exit status.
int record_terminal(const std::filesystem::path& folder, const std::string& terminal, int in);

/// Writes what is new to `out`: of the segment `name` from `offset` on, and of those after it; `limit` bytes at most.
/// An empty `name`: of all.
void send_recording(const std::filesystem::path& folder, const std::string& name, std::uint64_t offset,
                    std::size_t limit, int out);

}  // namespace agentvm::guest::agent
