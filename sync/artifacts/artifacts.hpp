#pragma once
// The public entry for build products: from a guest's workspace into a folder of the host.

#include <stop_token>

#include "guest/streams.hpp"
#include "sync/artifacts/receive.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/progress.hpp"

namespace agentvm::sync {

struct ArtifactRequest {
  fs::path destination;  ///< a folder of the user's; made when it is missing
  fs::path forbidden;    ///< our state: nothing is written below it, a guest may share it
  fs::path libexec;      ///< where agentvm-artifacts is
  fs::path scratch;      ///< a folder of this sandbox alone, below our state; created when missing
  std::string guest_program = "/run/agentvm/agentvm-guest";
  std::string guest_path = "/workspace";
  std::string sandbox;
  std::vector<std::string> globs;  ///< see `artifact_glob`
  ArtifactLimits limits;
  GatePolicy gate;
  bool accept = false;   ///< the user takes what they were asked about, and no more
  bool dry_run = false;  ///< look and judge, write nothing
};

struct ArtifactOutcome {
  ReceiveVerdict verdict;
  fs::path destination;
  bool dry_run = false;
  std::string reason;                 ///< why nothing was written, for people
  std::vector<std::string> commands;  ///< what helps
  bool gated() const { return !verdict.gated.empty(); }
};
/// `agentvm.artifacts/1`; guest text is cleaned.
Json to_json(const ArtifactOutcome& outcome);

/// Brings what matches and differs in size, time or mode. Nothing is deleted; what needs the user's decision (files
/// that git has, names that the gate lists) is an outcome, and then nothing was written. Blocking; one at a time per
/// destination. Throws `usage` (the destination), `wrong_state` (another is at work there), `operation_failed`
/// (refused, connection lost, a limit), `cancelled`, `timed_out`.
ArtifactOutcome fetch_artifacts(const ArtifactRequest& request, guest::Streams& streams, const Progress& progress,
                                const std::stop_token& stop, Deadline deadline);

}  // namespace agentvm::sync
