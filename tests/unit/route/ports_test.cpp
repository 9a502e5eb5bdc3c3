#include "proxy/route/ports.hpp"

#include <gtest/gtest.h>

namespace agentvm::proxy {
namespace {

Port port(std::uint16_t number, const std::string& process = "node", bool in_workspace = false,
          const std::string& address = "127.0.0.1") {
  return {number, address, process, in_workspace};
}

TEST(Ports, LeaveOutWhatTheSystemListensOn) {
  const auto servers = dev_servers({port(22, ""), port(5355, "systemd-resolve"), port(3128, "sshd"),
                                    port(3129, "sshd-session"), port(9000), port(111, "systemd"), port(3000)});
  ASSERT_EQ(servers.size(), 2u);
  EXPECT_EQ(servers[0].number, 3000);
  EXPECT_EQ(servers[1].number, 9000);
}

TEST(Ports, OneEntryForEachNumberTheLoopbackFirst) {
  const auto servers =
      dev_servers({port(80, "a", false, "10.0.2.15"), port(80, "b", false, "::1"), port(80, "c", false, "127.0.0.1")});
  ASSERT_EQ(servers.size(), 1u);
  EXPECT_EQ(servers[0].process, "c");
  std::vector<Port> many;
  for (std::uint16_t number = 1000; number < 1000 + 2 * port_limit; ++number) many.push_back(port(number));
  EXPECT_EQ(dev_servers(many).size(), port_limit);
}

TEST(Ports, ThePrimaryIsTheLowestOfTheWorkspaceAndStays) {
  EXPECT_EQ(primary_port({}, 0), 0);
  EXPECT_EQ(primary_port({}, 3000), 0);
  EXPECT_EQ(primary_port({port(3000), port(5173, "vite", true), port(8000, "api", true)}, 0), 5173);
  EXPECT_EQ(primary_port({port(3000), port(5173)}, 0), 3000);
  // A lower one that comes later changes nothing while the first one listens.
  EXPECT_EQ(primary_port({port(3000, "node", true), port(5173, "vite", true)}, 5173), 5173);
  EXPECT_EQ(primary_port({port(3000, "node", true), port(8000)}, 5173), 3000);
  // What a work tree has a name for is not what the sandbox's name means, unless there is nothing else.
  auto feature = port(2000, "node", true);
  feature.worktree = "feature";
  auto detached = port(2500, "node", true), main = port(3000, "node", true);
  main.in_main_tree = true;
  EXPECT_EQ(primary_port({feature, detached, main}, 0), 3000);
  EXPECT_EQ(primary_port({detached, port(2600)}, 0), 2500);
  EXPECT_EQ(primary_port({feature, port(3000)}, 0), 2000);
  EXPECT_EQ(worktree_port({port(1000), feature}, "feature"), 2000);
  EXPECT_EQ(worktree_port({port(1000), feature}, "featur"), 0);
}

TEST(Ports, BelongToTheInnermostWorkTree) {
  const std::vector<Worktree> worktrees{{"/workspace", "", ""},
                                        {"/workspace/.worktrees/a", "a", "a"},
                                        {"/workspace/.worktrees/a/b", "b", "b"},
                                        {"/workspace", "trap", "trap"},
                                        {"/", "root", "root"},
                                        {"/elsewhere", "", ""}};
  const auto label_in = [&](const std::string& folder) {
    auto one = port(3000);
    one.folder = folder;
    std::vector<Port> ports{one};
    place(ports, worktrees);
    return ports[0].in_workspace ? "[" + ports[0].worktree + "]" : std::string("none");
  };
  EXPECT_EQ(label_in("/workspace"), "[]");
  EXPECT_EQ(label_in("/workspace/web"), "[]");
  EXPECT_EQ(label_in("/workspace/.worktrees/a"), "[a]");
  EXPECT_EQ(label_in("/workspace/.worktrees/a/src"), "[a]");
  EXPECT_EQ(label_in("/workspace/.worktrees/a/b/src"), "[b]");
  EXPECT_EQ(label_in("/workspace/.worktrees/ab"), "[]");
  EXPECT_EQ(label_in("/workspace/.worktrees/a (deleted)"), "[]");
  EXPECT_EQ(label_in("/elsewhere/x"), "[]");
  EXPECT_EQ(label_in("/workspaces"), "none");
  EXPECT_EQ(label_in("/tmp"), "none");
  EXPECT_EQ(label_in(""), "none");
}

}  // namespace
}  // namespace agentvm::proxy
