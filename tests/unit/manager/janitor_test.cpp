#include "cli/manager/ops/janitor.hpp"

#include <atomic>
#include <future>
#include <stdexcept>

#include <gtest/gtest.h>

namespace agentvm::manager {
namespace {

constexpr std::chrono::seconds limit{10};

TEST(Janitor, RunsTasksInOrderAndSurvivesTheirErrors) {
  Janitor janitor;
  std::vector<int> order;
  std::promise<void> done;
  janitor.post("first", [&] { order.push_back(1); });
  janitor.post("bad", [&] { throw std::runtime_error("on purpose"); });
  janitor.post("last", [&] {
    order.push_back(2);
    done.set_value();
  });
  ASSERT_EQ(done.get_future().wait_for(limit), std::future_status::ready);
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
}

TEST(Janitor, ALaterTaskDoesNotHoldUpOneThatIsDue) {
  Janitor janitor;
  std::promise<void> done;
  std::atomic<bool> later{false};
  janitor.post_later(std::chrono::hours(1), "later", [&] { later = true; });
  janitor.post("now", [&] { done.set_value(); });
  ASSERT_EQ(done.get_future().wait_for(limit), std::future_status::ready);
  EXPECT_FALSE(later);
}

TEST(Janitor, StartsNothingAfterStop) {
  Janitor janitor;
  janitor.stop();
  bool ran = false;
  janitor.post("too late", [&] { ran = true; });
  janitor.stop();
  EXPECT_FALSE(ran);
}

}  // namespace
}  // namespace agentvm::manager
