#include "cli/manager/ops/wip_timer.hpp"

#include <atomic>
#include <future>
#include <stdexcept>

#include <gtest/gtest.h>

namespace agentvm::manager {
namespace {

using std::chrono::seconds;
constexpr milliseconds step{5};

SandboxName name(const char* text) {
  return SandboxName::parse(text);
}

bool eventually(const std::function<bool()>& probe) {
  for (const auto deadline = Deadline::after(seconds(20)); !deadline.expired();) {
    if (probe()) return true;
    system_clock().sleep(step);
  }
  return probe();
}

TEST(WipTimer, TakesEachAtItsOwnPaceAndLeavesOutWhatIsOff) {
  std::atomic<int> off{0}, slow{0}, quick{0};
  WipTimer timer({[] {
                    return std::vector<std::pair<SandboxName, unsigned>>{
                        {name("off"), 0}, {name("slow"), 3600}, {name("quick"), 1}};
                  },
                  [&](const SandboxName& which) {
                    ++(which.str() == "off" ? off : which.str() == "slow" ? slow : quick);
                  }},
                 step);
  EXPECT_TRUE(eventually([&] { return quick >= 2; }));
  EXPECT_EQ(off, 0);
  EXPECT_EQ(slow, 0) << "nor at once";
}

TEST(WipTimer, AGuestThatFailsDoesNotKeepOthersFromTheirsAndIsAskedLessOften) {
  std::atomic<int> bad{0}, good{0};
  WipTimer timer({[] {
                    return std::vector<std::pair<SandboxName, unsigned>>{{name("bad"), 1}, {name("good"), 1}};
                  },
                  [&](const SandboxName& which) {
                    if (which.str() == "good") return void(++good);
                    ++bad;
                    throw std::runtime_error("on purpose");
                  }},
                 step);
  EXPECT_TRUE(eventually([&] { return good >= 3; }));
  EXPECT_GE(bad, 1);
  EXPECT_LT(bad, good);
}

TEST(WipTimer, WhoRemovesASandboxWaitsForItsSnapshot) {
  std::promise<void> began, release;
  std::atomic<bool> ended{false};
  auto released = release.get_future().share();
  WipTimer timer({[] {
                    return std::vector<std::pair<SandboxName, unsigned>>{{name("box"), 1}};
                  },
                  [&](const SandboxName&) {
                    if (ended) return;
                    began.set_value();
                    released.wait();
                    ended = true;
                  }},
                 step);
  ASSERT_EQ(began.get_future().wait_for(seconds(20)), std::future_status::ready);
  EXPECT_TRUE(timer.wait_idle(name("other"), Deadline::after(milliseconds(0))));
  EXPECT_FALSE(timer.wait_idle(name("box"), Deadline::after(milliseconds(20))));
  release.set_value();
  EXPECT_TRUE(timer.wait_idle(name("box"), Deadline::after(seconds(20))));
  EXPECT_TRUE(ended);
  timer.stop();
}

}  // namespace
}  // namespace agentvm::manager
