#pragma once
// Recordings of terminal sessions: where a guest keeps them, how large they grow, and how the host asks for them.
//
// tmux pipes what a session prints to `agentvm-guest record`, which writes it, with times, to a ring of segments on the
// guest's own disk: that costs the session nothing, goes on without host or manager, and is bounded where it is made.
// Each segment is an asciicast (version 2) named after the time at which it begins. The host copies what is new
// (`agentvm-guest recording`) into a ring of the same size; it believes nothing in it.
//
// An answer is pieces, each a line "NAME OFFSET LENGTH" and then LENGTH bytes of that segment from OFFSET on.

#include <cstddef>
#include <string>
#include <string_view>

namespace agentvm::guest {

/// A segment is begun anew once it is as large as this; its last line may go beyond it.
inline constexpr std::size_t recording_segment_bytes = 1u << 20;
inline constexpr std::size_t recording_line_limit_bytes = 512u << 10;
inline constexpr std::size_t recording_segments = 8;
/// Of the agent user, in the guest; a folder for each session.
inline constexpr const char* recordings_folder = "/home/agent/.local/state/agentvm/terminals";
/// The copy of the agent's program that the guest's users can run.
inline constexpr const char* guest_program_copy = "/run/agentvm/agentvm-guest";

/// "0001764433000123.cast": milliseconds since 1970, so that names sort by time.
inline constexpr std::size_t recording_name_digits = 16;
inline constexpr std::string_view recording_name_end = ".cast";
inline bool is_recording_name(std::string_view name) {
  return name.size() == recording_name_digits + recording_name_end.size() && name.ends_with(recording_name_end) &&
         name.find_first_not_of("0123456789") == recording_name_digits;
}

}  // namespace agentvm::guest
