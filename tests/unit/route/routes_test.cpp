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

/// A name means the server of exactly that work tree, or nothing.
TEST(Routes, DecideByWorkTree) {
  Routes routes;
  auto& route = routes["box"];
  route.state = State::running;
  route.worktrees = {{"/workspace", "", ""},
                     {"/workspace/.worktrees/feature", "feature", "feature"},
                     {"/workspace/.worktrees/feature-two", "feature-two", "feature-two"},
                     {"/workspace/.worktrees/quiet", "quiet", "quiet"}};
  route.ports = {{3000, "127.0.0.1", "node", false, "/workspace"},
                 {4000, "127.0.0.1", "node", false, "/workspace/.worktrees/feature/web"},
                 {5000, "::1", "node", false, "/workspace/.worktrees/feature"},
                 {6000, "127.0.0.1", "node", false, "/workspace/.worktrees/feature-two"},
                 {7000, "127.0.0.1", "node", false, "/tmp"}};
  place(route.ports, route.worktrees);
  route.primary = primary_port(route.ports, 0);
  routes["other"] = {.state = State::running};
  const auto port_of = [&](const char* name) {
    const auto decision = decide(routes, site, std::string(name) + ".localhost:8080");
    return decision.kind == Kind::forward ? decision.port : 0;
  };
  EXPECT_EQ(port_of("box"), 3000);
  EXPECT_EQ(port_of("feature.box"), 4000);
  EXPECT_EQ(port_of("4000.feature.box"), 4000);
  EXPECT_EQ(port_of("5000.feature.box"), 5000);
  EXPECT_EQ(port_of("feature-two.box"), 6000);
  // The name of the sandbox goes on meaning any port.
  for (const auto* name : {"3000.box", "4000.box", "6000.box", "7000.box"}) EXPECT_NE(port_of(name), 0) << name;
  for (const auto* name : {"quiet.box", "3000.quiet.box", "nobody.box", "3000.nobody.box", "3000.feature.box",
                           "6000.feature.box", "7000.feature.box", "4000.feature-two.box", "featur.box", "feature-.box",
                           "feature.other", "4000.feature.other"})
    EXPECT_EQ(port_of(name), 0) << name;
  EXPECT_EQ(decide(routes, site, "3000.feature.box.localhost:8080").kind, Kind::no_server);
  const auto nobody = decide(routes, site, "nobody.box.localhost:8080");
  EXPECT_EQ(nobody.kind, Kind::no_server);
  EXPECT_EQ(nobody.worktree, "nobody");
  EXPECT_EQ(nobody.port, 0);
  EXPECT_EQ(decide(routes, site, "feature.gone.localhost:8080").kind, Kind::unknown);
}

TEST(Routes, DecideByTheGuestsNumberOnTheHost) {
  auto routes = table();
  routes["other"] = {.state = State::running, .ports = {{3000, "127.0.0.1", "node", true}}, .primary = 3000};
  const auto at = [&](const char* host, std::uint16_t number) { return decide(routes, site, host, number); };
  EXPECT_EQ(at("box.localhost:8000", 8000).kind, Kind::forward);
  EXPECT_EQ(at("box.localhost:8000", 8000).port, 8000);
  EXPECT_EQ(at("box.localhost:3000", 3000).sandbox, "box");
  EXPECT_EQ(at("other.localhost:3000", 3000).sandbox, "other");
  EXPECT_EQ(at("other.localhost:8000", 8000).kind, Kind::no_server);
  EXPECT_EQ(at("off.localhost:8000", 8000).kind, Kind::not_running);
  for (const char* host : {"localhost:3000", "nobody.localhost:3000", "box.localhost:8080", "box.localhost:8000",
                           "3000.box.localhost:3000", "127.0.0.1:3000"})
    EXPECT_EQ(at(host, 3000).kind, Kind::unknown) << host;
  EXPECT_EQ(decide(routes, site, "box.localhost:3000").kind, Kind::unknown);
}

/// Another program of the host may have the number that a server has in its guest: its pages are from elsewhere.
TEST(Routes, AWebsocketComesFromANumberThatIsOurs) {
  auto routes = table();
  routes["box"].ports[0].same_port = true;
  const auto decision = decide(routes, site, "box.localhost:8080");
  for (const auto* origin : {"http://box.localhost:8080", "http://8000.box.localhost:8080",
                             "http://feature.box.localhost:8080", "http://box.localhost:3000"})
    EXPECT_TRUE(may_connect(decision, site, origin)) << origin;
  for (const auto* origin :
       {"", "null", "http://box.localhost:8000", "http://box.localhost:9000", "http://box.localhost",
        "http://other.localhost:3000", "http://localhost:3000", "https://box.localhost:3000",
        "http://3000.box.localhost:3000", "http://box.localhost:3000.evil.example", "http://box.localhost:3000/",
        "box.localhost:3000", "http://evil.example"})
    EXPECT_FALSE(may_connect(decision, site, origin)) << origin;
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
