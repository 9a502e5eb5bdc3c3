#include "proxy/route/routes.hpp"

#include <thread>

#include <gtest/gtest.h>

namespace agentvm::proxy {
namespace {

using Kind = RouteDecision::Kind;
using State = SandboxRoute::State;
const Site site{"localhost", 8080};

Routes table() {
  Routes routes;
  routes["box"] = {.state = State::running,
                   .ports = {{3000, "127.0.0.1", "node", true}, {8000, "::1", "python3", false}},
                   .primary = 3000};
  routes["quiet"] = {.state = State::running};
  routes["off"] = {.state = State::stopped, .state_text = "stopped"};
  return routes;
}

TEST(Routes, DecideByNameAndPort) {
  const auto routes = table();
  const auto primary = decide(routes, site, "box.localhost:8080");
  EXPECT_EQ(primary.kind, Kind::forward);
  EXPECT_EQ(primary.port, 3000);
  EXPECT_EQ(primary.address, "127.0.0.1");
  const auto other = decide(routes, site, "8000.box.localhost:8080");
  EXPECT_EQ(other.kind, Kind::forward);
  EXPECT_EQ(other.address, "::1");
  EXPECT_EQ(decide(routes, site, "9000.box.localhost:8080").kind, Kind::no_server);
  EXPECT_EQ(decide(routes, site, "22.box.localhost:8080").kind, Kind::no_server);
  EXPECT_EQ(decide(routes, site, "quiet.localhost:8080").kind, Kind::no_server);
  const auto off = decide(routes, site, "3000.off.localhost:8080");
  EXPECT_EQ(off.kind, Kind::not_running);
  EXPECT_EQ(off.route->state_text, "stopped");
  EXPECT_EQ(decide(routes, site, "localhost:8080").kind, Kind::index);
  EXPECT_EQ(decide(routes, site, "nobody.localhost:8080").kind, Kind::unknown);
  EXPECT_EQ(decide(routes, site, "box.evil.example:8080").kind, Kind::unknown);
}

TEST(RouteTable, ASnapshotDoesNotChange) {
  RouteTable routes;
  const auto before = routes.snapshot();
  routes.change([](Routes& all) { all = table(); });
  EXPECT_TRUE(before->empty());
  const auto after = routes.snapshot();
  EXPECT_EQ(after->size(), 3u);
  routes.change([](Routes& all) { all.erase("box"); });
  EXPECT_TRUE(after->contains("box"));
  EXPECT_FALSE(routes.snapshot()->contains("box"));
}

TEST(RouteTable, EditorsDoNotLoseEachOther) {
  RouteTable routes;
  const auto add = [&](const std::string& prefix) {
    for (int i = 0; i < 200; ++i) routes.change([&](Routes& all) { all[prefix + std::to_string(i)]; });
  };
  std::thread one([&] { add("a"); }), two([&] { add("b"); });
  one.join();
  two.join();
  EXPECT_EQ(routes.snapshot()->size(), 400u);
}

}  // namespace
}  // namespace agentvm::proxy
