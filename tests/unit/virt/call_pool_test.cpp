#include "vmm/libvirt/call_pool.hpp"

#include <atomic>
#include <future>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace agentvm::libvirt {
namespace {

using std::chrono::seconds;

TEST(CallPool, GivesResultsAndErrors) {
  CallPool pool(2);
  EXPECT_EQ(pool.call("adding", Deadline::after(seconds(5)), [] { return 1 + 1; }), 2);
  EXPECT_THROW(
      pool.call("failing", Deadline::after(seconds(5)), []() -> int { throw Error(ErrorCode::not_found, "x"); }),
      Error);
}

TEST(CallPool, DeadlineNamesTheCall) {
  CallPool pool(1);
  std::promise<void> release;
  const auto blocked = release.get_future().share();
  try {
    pool.call("starting machine x", Deadline::after(milliseconds(20)), [blocked] {
      blocked.wait();
      return 1;
    });
    ADD_FAILURE() << "did not time out";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::timed_out);
    EXPECT_THAT(error.message(), ::testing::HasSubstr("starting machine x"));
  }
  release.set_value();
}

TEST(CallPool, LateSuccessIsUndone) {
  CallPool pool(1);
  std::promise<void> release, undone;
  const auto blocked = release.get_future().share();
  const auto work = [blocked] {
    blocked.wait();
    return 7;
  };
  EXPECT_THROW(pool.call("late", Deadline::after(milliseconds(20)), work,
                         [&](int& result) {
                           EXPECT_EQ(result, 7);
                           undone.set_value();
                         }),
               Error);
  release.set_value();
  EXPECT_EQ(undone.get_future().wait_for(seconds(5)), std::future_status::ready);
}

TEST(CallPool, AnAbandonedCallThatHasNotBegunNeverBegins) {
  CallPool pool(1);
  std::promise<void> release;
  const auto blocked = release.get_future().share();
  const auto block = [blocked] {
    blocked.wait();
    return 0;
  };
  EXPECT_THROW(pool.call("first", Deadline::after(milliseconds(20)), block), Error);
  std::atomic<bool> ran = false;
  EXPECT_THROW(pool.call("second", Deadline::after(milliseconds(20)), [&] { return ran.exchange(true); }), Error);
  release.set_value();
  EXPECT_EQ(pool.call("third", Deadline::after(seconds(5)), [] { return 3; }), 3);
  EXPECT_FALSE(ran);
}

TEST(CallPool, DestructionDoesNotWaitForAStuckCall) {
  auto release = std::make_shared<std::promise<void>>();
  const auto blocked = release->get_future().share();
  const auto began = std::chrono::steady_clock::now();
  {
    CallPool pool(1);
    const auto block = [blocked] {
      blocked.wait();
      return 0;
    };
    EXPECT_THROW(pool.call("stuck", Deadline::after(milliseconds(20)), block), Error);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - began, seconds(10));
  release->set_value();
}

}  // namespace
}  // namespace agentvm::libvirt
