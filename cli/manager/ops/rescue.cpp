#include "cli/manager/ops/rescue.hpp"

#include <fmt/format.h>

#include "sync/sync.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::manager {
namespace {

/// Runs in the guest, as its agent, on its own repository: a commit of what is not committed, made through an index of
/// its own. Prints the branch it made, or nothing when everything is committed.
constexpr const char* commit_uncommitted = R"sh(
set -e
cd /workspace
git rev-parse --git-dir >/dev/null
index=$(mktemp)
trap 'rm -f "$index"' EXIT
cp "$(git rev-parse --git-path index)" "$index" 2>/dev/null || rm -f "$index"
export GIT_INDEX_FILE="$index"
git add -A
tree=$(git write-tree)
head=$(git rev-parse -q --verify HEAD || true)
[ -n "$head" ] && [ "$tree" = "$(git rev-parse "$head^{tree}")" ] && exit 0
export GIT_AUTHOR_NAME=agentvm GIT_AUTHOR_EMAIL=agentvm@localhost GIT_COMMITTER_NAME=agentvm GIT_COMMITTER_EMAIL=agentvm@localhost
commit=$(git commit-tree "$tree" ${head:+-p "$head"} -m "Uncommitted work rescued by agentvm")
git update-ref "refs/heads/$1" "$commit"
echo "$1"
)sh";

std::string read_all(int fd, Deadline deadline) {
  constexpr std::size_t limit_bytes = 4096;
  std::string text;
  char buffer[1024];
  while (const auto count = read_some(fd, buffer, sizeof buffer, deadline))
    if (text.size() < limit_bytes) text.append(buffer, count);
  return text;
}

struct GuestAnswer {
  int code;
  std::string out, err;
};

GuestAnswer run_in_guest(guest::Streams& streams, std::vector<std::string> argv, Deadline deadline) {
  const auto process = streams.exec({.argv = std::move(argv)}, deadline);
  const auto io = process->take_io();
  const auto err = process->take_err();
  GuestAnswer answer;
  answer.out = read_all(io.get(), deadline);
  answer.err = read_all(err.get(), deadline);
  const auto status = process->wait(deadline);
  answer.code = status ? status->shell_code() : 125;
  return answer;
}

}  // namespace

std::vector<std::string> rescue_work(Core& core, const SandboxRecord& record, Deadline deadline) {
  const auto live = core.live(record.name);
  if (!live)
    throw Error(ErrorCode::wrong_state, record.name.str() + " is not running",
                "agentvm start " + record.project.string());
  const auto session = live->session(Session::control, deadline);
  auto time = format_time(system_clock().unix_seconds());
  std::erase(time, ':');  // not allowed in a reference
  const auto branch = "rescue/" + time;
  const auto made = run_in_guest(*session, {"sh", "-c", commit_uncommitted, "sh", branch}, deadline);
  if (made.code != 0)
    throw Error(ErrorCode::operation_failed,
                fmt::format("{}: uncommitted work could not be committed in the guest: {}", record.name.str(),
                            clean_guest_text(made.err, Newlines::escape, 400)));
  sync::SyncRequest request{.repository = record.project,
                            .sandbox = record.name,
                            .libexec = core.paths().libexec,
                            .scratch = core.store().folder(record.name) / "sync"};
  request.move = sync::Move::references_only;
  const auto outcome = sync::sync_now(request, *session, no_progress(), deadline);
  // Only now: the commit is on the host, so the guest's branch for it has done its work.
  if (!made.out.empty())
    run_in_guest(*session, {"git", "-C", "/workspace", "update-ref", "-d", "refs/heads/" + branch}, deadline);
  std::vector<std::string> refs;
  for (const auto& change : outcome.refs) refs.push_back(change.ref);
  log::info("rescue", "{}: {} references", record.name.str(), refs.size());
  return refs;
}

}  // namespace agentvm::manager
