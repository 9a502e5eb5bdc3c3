#pragma once
// The work of the child: a listing is judged against the host's tree, what is new is asked for and written.

#include <functional>

#include "sync/artifacts/stream.hpp"
#include "sync/artifacts/tree_writer.hpp"
#include "sync/gate.hpp"
#include "vmm/base/json.hpp"

namespace agentvm::sync {

/// What the parent tells its child.
struct ReceiveRequest {
  ArtifactLimits limits;
  std::vector<std::string> globs;
  GatePolicy gate;
  std::vector<std::string> tracked;   ///< paths that git has in the destination
  std::vector<std::string> accepted;  ///< paths that need not be asked for
  bool dry_run = false;
};
Json to_json(const ReceiveRequest& request);
ReceiveRequest receive_request_from(const Json& json);

struct AskedFor {
  std::string path, kind;
};
/// What the child says in the end.
struct ReceiveVerdict {
  std::vector<AskedFor> gated;                    ///< what needs the user's decision: then nothing was written
  std::uint64_t files = 0, links = 0, bytes = 0;  ///< written (with dry_run or gated: to be written)
  std::uint64_t unchanged = 0;
  std::vector<LeftOut> left_out;  ///< the first of them
  std::uint64_t left_out_count = 0;
};
Json to_json(const ReceiveVerdict& verdict);
/// Throws `operation_failed` for what our child would not say.
ReceiveVerdict receive_verdict_from(const Json& json);

/// Why the user is asked before `path` is written: "tracked" (git has it), or a kind of the gate's table. An
/// executable is none: most build products are.
std::optional<std::string> artifact_kind(const std::string& path, const ReceiveRequest& request);

struct ReceiveProgress {
  std::uint64_t files = 0, all_files = 0, bytes = 0, all_bytes = 0;
};

/// `answer` gets what is to be sent to the guest. Throws as `read_listing`, `read_contents` and TreeWriter do; files
/// that were complete by then stay.
ReceiveVerdict receive(const ReceiveRequest& request, ByteSource& source,
                       const std::function<void(std::string_view)>& answer, TreeWriter& tree,
                       const std::function<void(const ReceiveProgress&)>& progress);

}  // namespace agentvm::sync
