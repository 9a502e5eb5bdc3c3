#include "cli/manager/ops/front.hpp"

#include <gtest/gtest.h>

namespace agentvm::manager {
namespace {

TEST(NamedWorktrees, AreThoseOnRecordThatHaveABranchAndALabel) {
  SandboxRecord record{.id = "", .name = SandboxName::parse("box"), .project = "/p"};
  EXPECT_EQ(named_worktrees(record), (std::vector<proxy::Worktree>{{"/workspace", "", ""}}));
  const auto feature = branch_label("feature/x");
  record.branch = "main";
  record.worktrees = {{"feature/x", "/workspace/.worktrees/" + feature},
                      {"plain", "/elsewhere"},
                      {"", "/workspace/.worktrees/detached"},
                      {"3000", "/workspace/.worktrees/3000"}};
  // /workspace has no name of its own, nor has what is detached or would take a port's name.
  EXPECT_EQ(named_worktrees(record), (std::vector<proxy::Worktree>{{"/workspace", "", ""},
                                                                   {record.worktrees[0].path, feature, "feature/x"},
                                                                   {"/elsewhere", "plain", "plain"},
                                                                   {record.worktrees[2].path, "", ""},
                                                                   {record.worktrees[3].path, "", "3000"}}));
}

}  // namespace
}  // namespace agentvm::manager
