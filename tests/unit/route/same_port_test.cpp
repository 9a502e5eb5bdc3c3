#include "proxy/route/same_port.hpp"

#include <gmock/gmock.h>

namespace agentvm::proxy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using State = SandboxRoute::State;

class SamePortsTest : public testing::Test {
 protected:
  void serve(const std::string& sandbox, const std::vector<int>& numbers, State state = State::running) {
    auto& route = routes[sandbox];
    route.state = state;
    route.ports.clear();
    for (const int number : numbers) route.ports.push_back({static_cast<std::uint16_t>(number), "127.0.0.1", "node"});
    ports.follow(routes);
  }
  std::string problem(const std::string& sandbox, std::uint16_t number) {
    for (const auto& port : routes[sandbox].ports)
      if (port.number == number) return port.same_port ? "" : port.same_port_problem;
    return "not listed";
  }

  std::set<std::uint16_t> listening, taken;
  int asked = 0;
  Routes routes;
  SamePorts ports{8080,
                  {.open =
                       [this](std::uint16_t number) {
                         ++asked;
                         if (taken.contains(number)) return std::string("taken");
                         EXPECT_TRUE(listening.insert(number).second) << number;
                         return std::string();
                       },
                   .close = [this](std::uint16_t number) { EXPECT_EQ(listening.erase(number), 1u) << number; }}};
};

TEST_F(SamePortsTest, OneListenerForEachNumberAsLongAsSomebodyHasIt) {
  serve("box", {3000, 5173});
  EXPECT_THAT(listening, ElementsAre(3000, 5173));
  serve("other", {3000});
  EXPECT_THAT(listening, ElementsAre(3000, 5173));
  EXPECT_EQ(problem("box", 3000), "");
  EXPECT_EQ(problem("other", 3000), "");
  EXPECT_EQ(asked, 2);
  serve("box", {});
  EXPECT_THAT(listening, ElementsAre(3000));
  serve("other", {3000}, State::stopped);
  EXPECT_TRUE(listening.empty());
  EXPECT_FALSE(routes["other"].ports[0].same_port);
  serve("other", {3000}, State::running);
  EXPECT_THAT(listening, ElementsAre(3000));
  routes.erase("other");
  ports.follow(routes);
  EXPECT_TRUE(listening.empty());
}

TEST_F(SamePortsTest, WhatIsNotTheGuestsIsSkippedWithTheReason) {
  taken = {3000};
  serve("box", {80, 1023, 1024, 3000, 8080});
  EXPECT_THAT(listening, ElementsAre(1024));
  EXPECT_THAT(problem("box", 80), HasSubstr("1024"));
  EXPECT_THAT(problem("box", 1023), HasSubstr("1024"));
  EXPECT_EQ(problem("box", 1024), "");
  EXPECT_EQ(problem("box", 3000), "taken");
  EXPECT_THAT(problem("box", 8080), HasSubstr("own"));
  // It is tried again, and what it says then counts.
  taken.clear();
  ports.follow(routes);
  EXPECT_EQ(problem("box", 3000), "");
  EXPECT_THAT(listening, ElementsAre(1024, 3000));
}

TEST_F(SamePortsTest, NoSandboxAndNotAllTogetherHaveMoreThanTheirPart) {
  std::vector<int> many;
  for (int i = 0; i < 200; ++i) many.push_back(20000 + i);
  serve("a", many);
  EXPECT_EQ(listening.size(), same_port_sandbox_limit);
  EXPECT_THAT(problem("a", 20100), HasSubstr("this sandbox"));
  for (int sandbox = 1; sandbox <= 8; ++sandbox) {
    for (auto& number : many) number += 1000;
    serve("b" + std::to_string(sandbox), many);
    EXPECT_LE(listening.size(), same_port_limit);
  }
  EXPECT_EQ(listening.size(), same_port_limit);
  EXPECT_THAT(problem("b8", 28000), HasSubstr("all sandboxes"));
  // A newcomer that comes first by name, or with lower numbers, takes nobody's place.
  const auto before = listening;
  serve("0", {2000});
  EXPECT_EQ(listening, before);
  // What becomes free goes to whoever waits.
  serve("a", {});
  EXPECT_EQ(problem("0", 2000), "");
}

}  // namespace
}  // namespace agentvm::proxy
