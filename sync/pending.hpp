#pragma once
// How much a guest has that the host has not: asked from the guest, so it is for people and decides nothing.

#include <optional>
#include <string>
#include <vector>

#include "vmm/base/clock.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/names.hpp"

namespace agentvm::sync {

/// A question to the guest's git: `argv` to run in the guest, `input` for its standard input.
struct PendingQuestion {
  std::vector<std::string> argv;
  std::string input;
};

/// Asks for the number of commits on branches of the guest that no branch of `repository` and nothing below
/// refs/agentvm/<sandbox>/ has. Throws as `open_host_repository` does.
PendingQuestion pending_question(const fs::path& repository, const SandboxName& sandbox, const std::string& guest_path,
                                 Deadline deadline);
/// The number in the guest's answer; nothing when it is none.
std::optional<std::uint64_t> pending_answer(std::string_view output);

}  // namespace agentvm::sync
