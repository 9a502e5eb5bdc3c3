// What a guest says of its work trees, from any bytes: refused or harmless. Names of snapshots: read as they are
// written.
#include <cstdint>
#include <cstdlib>

#include "sync/guest_work.hpp"
#include "sync/refs.hpp"
#include "sync/wip_name.hpp"

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

void check(const agentvm::sync::GuestWorktree& worktree) {
  using namespace agentvm::sync;
  require(worktree.path.starts_with('/') && worktree.path.find('\n') == std::string::npos);
  require(worktree.branch.empty() || !refname_problem(std::string(branch_prefix) + worktree.branch));
  require(worktree.tip.empty() || is_oid(worktree.tip));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace agentvm::sync;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    for (const auto& worktree : parse_survey(text)) check(worktree);
  } catch (const agentvm::Error&) {
  }
  try {
    for (const auto& snapshot : parse_snapshots(text)) {
      check(snapshot.worktree);
      require(snapshot.number < worktrees_limit && (snapshot.commit.empty() || is_oid(snapshot.tree)));
    }
  } catch (const agentvm::Error&) {
  }
  if (const auto name = parse_wip_name(text)) {
    require(name->str() == text);
    require(!refname_problem("refs/agentvm/box/wip/" + name->str()));
  }
  return 0;
}
