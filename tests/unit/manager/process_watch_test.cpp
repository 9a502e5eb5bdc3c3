#include "cli/manager/ops/process_watch.hpp"

#include <atomic>
#include <csignal>
#include <future>

#include <gtest/gtest.h>

#include "vmm/base/process.hpp"

namespace agentvm::manager {
namespace {

constexpr std::chrono::seconds limit{10};

Process sleeper() {
  return Process::spawn({.argv = {"sleep", "600"}});
}

TEST(ProcessWatch, TellsOnceWhenTheProcessEnds) {
  ProcessWatch watch;
  auto child = sleeper();
  std::promise<void> ended;
  ASSERT_TRUE(watch.add("box", child.pid(), process_start_ticks(child.pid()), [&] { ended.set_value(); }));
  ::kill(child.pid(), SIGKILL);
  EXPECT_EQ(ended.get_future().wait_for(limit), std::future_status::ready);
  child.detach();  // the watch has reaped it
}

TEST(ProcessWatch, RefusesAPidThatIsAnotherProcessByNow) {
  ProcessWatch watch;
  auto child = sleeper();
  EXPECT_FALSE(watch.add("box", child.pid(), process_start_ticks(child.pid()) + 1, [] {}));
  EXPECT_FALSE(watch.add("box", 0, 0, [] {}));
}

TEST(ProcessWatch, SaysNothingAfterRemove) {
  ProcessWatch watch;
  auto removed = sleeper(), watched = sleeper();
  std::atomic<bool> told{false};
  std::promise<void> other;
  ASSERT_TRUE(watch.add("gone", removed.pid(), process_start_ticks(removed.pid()), [&] { told = true; }));
  ASSERT_TRUE(watch.add("other", watched.pid(), process_start_ticks(watched.pid()), [&] { other.set_value(); }));
  watch.remove("gone");
  ::kill(removed.pid(), SIGKILL);
  ::kill(watched.pid(), SIGKILL);
  ASSERT_EQ(other.get_future().wait_for(limit), std::future_status::ready);
  EXPECT_FALSE(told);
  watched.detach();
}

}  // namespace
}  // namespace agentvm::manager
