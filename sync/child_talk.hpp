#pragma once
// One conversation of the child `agentvm-git` with a git program in the guest: the child has the stream, we have its
// word.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "guest/streams.hpp"
#include "vmm/base/json.hpp"

namespace agentvm::sync {

namespace fs = std::filesystem;

struct Conversation {
  std::vector<std::string> guest_argv;  ///< what runs in the guest, at its root folder
  std::string mode;                     ///< the child's one argument: "fetch", "push"
  fs::path folder;                      ///< where the child runs, and all that it may write
  std::map<int, int> fds;               ///< what else it gets: its descriptor -> ours
};

/// Runs both and returns the child's verdict, whose fields are not judged yet. Throws the refusal in it, or that there
/// is none (`operation_failed`, `timed_out`; with the guest's remarks, cleaned). The child is dead afterwards.
Json converse(guest::Streams& streams, const Conversation& conversation, const fs::path& libexec, Deadline deadline);

/// The same with a stream that is there already; `guest_argv` is not looked at.
Json converse(UniqueFd io, const Conversation& conversation, const fs::path& libexec, Deadline deadline);

}  // namespace agentvm::sync
