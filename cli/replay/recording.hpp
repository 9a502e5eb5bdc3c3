#pragma once
// The recording of a terminal session, as its guest wrote it: a folder of segments, each an asciicast (version 2) named
// after when it begins. Every byte is the guest's: what is no event is passed over, times never go back, and how much
// is read is bounded by the manager, which keeps so many segments of that size (cli/manager/ops/recordings).
//
// The client alone reads them, here; the manager moves bytes.

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/json.hpp"

namespace agentvm::cli {

struct RecordedEvent {
  double at = 0;                   ///< seconds since the recording began; never less than the event's before it
  std::string data;                ///< what was printed, raw; empty: the terminal got another size
  unsigned columns = 0, rows = 0;  ///< of a size
};

struct Recording {
  std::int64_t begun_ms = 0;  ///< since 1970, by the guest's clock
  unsigned columns = 80, rows = 24;
  std::vector<RecordedEvent> events;
  double seconds() const { return events.empty() ? 0 : events.back().at; }
};

/// One line of a segment. `at`: seconds since the segment began. Nothing for what is no event. Pure.
std::optional<RecordedEvent> parse_recorded_event(std::string_view line);
/// Appends a segment that began at `begun_ms`. Pure.
void add_segment(Recording& recording, std::int64_t begun_ms, std::string_view text);

/// The segments in `folder`, oldest first; none where there is no folder.
std::vector<std::filesystem::path> recorded_segments(const std::filesystem::path& folder);
/// All of it; empty where there is none.
Recording read_recording(const std::filesystem::path& folder);

/// Follows what is added to a folder. Not thread-safe.
class RecordingTail {
 public:
  explicit RecordingTail(std::filesystem::path folder) : folder_(std::move(folder)) {}
  /// What was printed since the last call; at first all of it.
  std::string read();

 private:
  const std::filesystem::path folder_;
  std::map<std::string, std::size_t> read_;  // by a segment's name, up to the end of a line
};

/// As an asciicast of version 2 that any player may be given: what `TerminalFilter` lets through, gaps as they were.
std::string asciicast_header(const Recording& recording, const std::string& title);
/// [[seconds, "o", text] ...]
Json asciicast_events(const Recording& recording);

/// How long to wait before each event, in seconds: as it was, `idle_limit` at most (0: no limit), divided by `speed`.
std::vector<double> replay_waits(const Recording& recording, double speed, double idle_limit);

}  // namespace agentvm::cli
