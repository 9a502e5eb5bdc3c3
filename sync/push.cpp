#include "sync/push.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include "sync/child_talk.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::sync {
namespace {

constexpr std::size_t known_limit = 256;  ///< they only save bytes

/// The pack is whole on disk before the first byte goes out: a stream that breaks off would leave the guest's git
/// waiting for its rest.
UniqueFd make_pack(const HostRepository& host, const PushRequest& request, const std::vector<std::string>& known,
                   const fs::path& folder, Deadline deadline) {
  std::string revisions = request.new_tip + "\n";
  if (!request.old_tip.empty()) revisions += "^" + request.old_tip + "\n";
  const HostGit git(host.worktree);
  for (std::size_t i = 0; i < known.size() && i < known_limit; ++i)
    if (known[i] != request.old_tip) revisions += "^" + known[i] + "\n";
  write_file_atomic(folder / "push.revisions", revisions);
  const auto input = open_file(folder / "push.revisions", O_RDONLY);
  const auto path = folder / "push.pack";
  {
    const auto output = open_file(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW);
    auto spec = git.spec({"pack-objects", "--revs", "--thin", "--stdout", "--quiet"});
    spec.fds = {{0, input.get()}, {1, output.get()}};
    spec.die_with_parent = true;
    const auto status = Process::spawn(spec).wait(deadline);
    if (!status) throw Error(ErrorCode::timed_out, "packing your commits for the sandbox did not finish in time");
    if (!status->ok())
      throw Error(ErrorCode::operation_failed,
                  fmt::format("git could not pack your commits for the sandbox ({})", status->describe()),
                  fmt::format("git -C {} fsck", host.worktree.string()));
  }
  return open_file(path, O_RDONLY);
}

}  // namespace

PushAnswer push_branch(const HostRepository& host, const PushRequest& request, const std::vector<std::string>& known,
                       const std::string& guest_path, const fs::path& libexec, const fs::path& folder,
                       guest::Streams& streams, Deadline deadline) {
  deadline = deadline.sooner(Deadline::after(std::chrono::seconds(request.limits.seconds + 2)));
  const auto pack = make_pack(host, request, known, folder, deadline);
  write_file_atomic(folder / request_file, dump_json(to_json(request)));
  // updateInstead: a checked-out branch moves with its work tree, and only where nothing uncommitted is in the way.
  Conversation talk{
      {"env", "-u", "GIT_PROTOCOL", "git", "-c", "receive.denyCurrentBranch=updateInstead", "receive-pack", guest_path},
      "push",
      folder,
      {{pack_fd, pack.get()}}};
  return push_answer_from_json(converse(streams, talk, libexec, deadline));
}

}  // namespace agentvm::sync
