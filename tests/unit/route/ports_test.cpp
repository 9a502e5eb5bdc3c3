#include "proxy/route/ports.hpp"

#include <gtest/gtest.h>

namespace agentvm::proxy {
namespace {

Port port(std::uint16_t number, const std::string& process = "node", bool in_workspace = false,
          const std::string& address = "127.0.0.1") {
  return {number, address, process, in_workspace};
}

TEST(Ports, LeaveOutWhatTheSystemListensOn) {
  const auto servers = dev_servers(
      {port(22, ""), port(5355, "systemd-resolve"), port(3128, "sshd"), port(9000), port(111, "systemd"), port(3000)});
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
}

}  // namespace
}  // namespace agentvm::proxy
