// Who waits for a human, between a real agent (over a socketpair) and a callback that is only counted.
#include "cli/manager/ops/agent_watch.hpp"

#include <atomic>
#include <fstream>

#include <gtest/gtest.h>
#include <sys/socket.h>

#include "guest/agent/server.hpp"
#include "tests/support/temporary_folder.hpp"

namespace agentvm::manager {
namespace {

const SandboxName box = SandboxName::parse("box"), other = SandboxName::parse("other");

/// A guest whose one session has a program without a terminal: it is "gone" while its note says that it runs.
struct Guest {
  Guest() {
    fs::create_directories(root / "run/agentvm/sessions");
    auto pair = make_socketpair();
    end = std::move(pair.second);
    guest::agent::ServerOptions options;
    options.stage = guest::agent::Stage::running;
    options.root = root.path();
    server = std::make_unique<guest::agent::Server>(end.get(), std::move(options));
    thread = std::thread([this] { server->run(Deadline::after(milliseconds(60'000))); });
    control = std::make_shared<guest::Control>(std::move(pair.first));
    control->hello(Deadline::after(milliseconds(10'000)));
  }
  ~Guest() {
    ::shutdown(end.get(), SHUT_RDWR);
    thread.join();
  }
  void note(const std::string& text, const std::string& session = "main") {
    std::ofstream(root / "run/agentvm/sessions/new.tmp") << text;
    fs::rename(root / "run/agentvm/sessions/new.tmp", root / "run/agentvm/sessions" / session);
  }
  const test::TemporaryFolder root;
  UniqueFd end;
  std::unique_ptr<guest::agent::Server> server;
  std::thread thread;
  std::shared_ptr<guest::Control> control;
};

class AgentWatchTest : public testing::Test {
 protected:
  ~AgentWatchTest() override { watch.stop(); }
  bool reaches(const SandboxName& name, const std::string& state, int code = 0, const std::string& where = "main") {
    const auto deadline = Deadline::after(milliseconds(10'000));
    const auto there = [&] {
      const auto session = watch.session(name, where);
      return session.state == state && session.code == code;
    };
    while (!there() && !deadline.expired()) system_clock().sleep(milliseconds(5));
    return there();
  }
  /// The user is told right after the state can be seen.
  bool told(std::size_t times) const {
    const auto deadline = Deadline::after(milliseconds(10'000));
    while (wanted < times && !deadline.expired()) system_clock().sleep(milliseconds(5));
    return wanted == times;
  }
  Guest one, two;
  std::atomic<std::size_t> wanted = 0;
  std::atomic<bool> has_branch = true;
  AgentWatch watch{[this](const SandboxName&, const std::string& session) {
                     return session == "main" || (has_branch && session == "branch");
                   },
                   [this](const SandboxName&, const std::string&, const AgentWatch::Session&) { ++wanted; }};
};

TEST_F(AgentWatchTest, WhatIsSoWhenItBeginsIsNoNews) {
  one.note("ended 3\n");
  watch.watch(box, one.control);
  EXPECT_TRUE(reaches(box, "ended", 3));
  EXPECT_EQ(wanted, 0);
  EXPECT_EQ(watch.next(), std::pair(box, std::string("main"))) << "but it waits";
  one.note("ended 4\n");
  EXPECT_TRUE(reaches(box, "ended", 4));
  EXPECT_TRUE(told(1));
  one.note("running 1\n");
  EXPECT_TRUE(reaches(box, "gone"));
  EXPECT_TRUE(told(1));
  EXPECT_EQ(watch.next(), std::nullopt);
}

TEST_F(AgentWatchTest, AGuestThatChangesItsMindDoesNotCallForEver) {
  watch.watch(box, one.control);
  one.note("running 1\n");
  ASSERT_TRUE(reaches(box, "gone"));
  for (int code = 1; code <= 5; ++code) {
    one.note("ended " + std::to_string(code) + "\n");
    ASSERT_TRUE(reaches(box, "ended", code));
  }
  EXPECT_TRUE(told(AgentWatch::calls_a_minute));
}

TEST_F(AgentWatchTest, WhoeverLooksIsNotTold) {
  watch.watch(box, one.control);
  one.note("running 1\n");
  ASSERT_TRUE(reaches(box, "gone"));
  auto looking = watch.look(box, "main");
  one.note("ended 0\n");
  ASSERT_TRUE(reaches(box, "ended"));
  EXPECT_EQ(wanted, 0);
  EXPECT_EQ(watch.next(), std::nullopt);
  looking.reset();
  EXPECT_EQ(watch.next(), std::pair(box, std::string("main"))) << "seen, and nothing else waits";
}

TEST_F(AgentWatchTest, WhatNobodyHasSeenComesFirst) {
  one.note("ended 0\n");
  two.note("ended 0\n");
  watch.watch(box, one.control);
  watch.watch(other, two.control);
  ASSERT_TRUE(reaches(box, "ended") && reaches(other, "ended"));
  const auto first = watch.next();
  ASSERT_TRUE(first);
  watch.look(first->first, first->second).reset();
  EXPECT_NE(watch.next(), first);
}

TEST_F(AgentWatchTest, ASessionThatTheHostDoesNotKnowIsNone) {
  one.note("ended 0\n", "elsewhere");
  watch.watch(box, one.control);
  one.note("ended 1\n", "branch");
  ASSERT_TRUE(reaches(box, "ended", 1, "branch"));
  EXPECT_EQ(watch.session(box, "elsewhere").state, "");
  EXPECT_EQ(watch.session(box, "main").state, "");
  watch.unwatch(box);
  EXPECT_EQ(watch.session(box, "branch").state, "") << "of a guest that is gone nothing is known";
  EXPECT_EQ(watch.next(), std::nullopt);
}

TEST_F(AgentWatchTest, EachSessionOfASandboxWaitsForItself) {
  one.note("ended 0\n");
  one.note("ended 0\n", "branch");
  watch.watch(box, one.control);
  ASSERT_TRUE(reaches(box, "ended") && reaches(box, "ended", 0, "branch"));
  const auto looking = watch.look(box, "main");
  EXPECT_EQ(watch.next(), std::pair(box, std::string("branch")));
  one.note("running 1\n", "branch");
  ASSERT_TRUE(reaches(box, "gone", 0, "branch"));
  EXPECT_EQ(watch.next(), std::nullopt);
  for (int code = 1; code <= 3; ++code) {
    one.note("ended " + std::to_string(code) + "\n", "branch");
    ASSERT_TRUE(reaches(box, "ended", code, "branch"));
  }
  EXPECT_TRUE(told(AgentWatch::calls_a_minute)) << "of one sandbox together";
}

TEST_F(AgentWatchTest, TheSessionOfARemovedWorkTreeDoesNotWait) {
  one.note("running 1\n");
  watch.watch(box, one.control);
  ASSERT_TRUE(reaches(box, "gone"));
  one.note("ended 1\n", "branch");
  ASSERT_TRUE(reaches(box, "ended", 1, "branch"));
  EXPECT_TRUE(told(1));
  has_branch = false;
  EXPECT_EQ(watch.next(), std::nullopt) << "even before the guest has any news";
  one.note("ended 2\n");
  ASSERT_TRUE(reaches(box, "", 0, "branch")) << "nothing is kept of it";
  has_branch = true;
  one.note("running 1\n", "branch");
  ASSERT_TRUE(reaches(box, "gone", 0, "branch"));
  one.note("ended 1\n", "branch");
  EXPECT_TRUE(told(3)) << "another one of the same name is news";
}

}  // namespace
}  // namespace agentvm::manager
