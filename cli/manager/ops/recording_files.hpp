#pragma once
// The host's copy of a recording (guest/protocol/recording.hpp): pieces that a guest sends, checked and appended to a
// folder of segments whose number and size are bounded here, whatever the guest says. Nothing looks into the bytes.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace agentvm::manager {

/// Where the copy ends: what to ask for next. Both empty and 0 where there is nothing.
struct RecordingEnd {
  std::string segment;
  std::uint64_t size_bytes = 0;
};
RecordingEnd recording_end(const std::filesystem::path& folder);

/// Appends what an answer holds; makes the folder. Returns whether there was something. Throws `operation_failed` for
/// what is no answer to `recording_end`: a segment before it, a gap, one that is too large; what came before that
/// stays. `now_ms`: the host's clock; segments of another day's future are passed over, as nothing would ever follow
/// them.
bool add_to_recording(const std::filesystem::path& folder, std::string_view answer, std::int64_t now_ms);

}  // namespace agentvm::manager
