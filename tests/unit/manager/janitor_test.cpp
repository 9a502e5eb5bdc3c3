#include "cli/manager/ops/janitor.hpp"

#include <atomic>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

#include <gtest/gtest.h>

namespace agentvm::manager {
namespace {

constexpr std::chrono::seconds limit{10};

TEST(Janitor, RunsTheTasksOfALaneInOrderAndSurvivesTheirErrors) {
  Janitor janitor;
  std::vector<int> order;
  std::promise<void> done;
  janitor.post("lane", [&] { order.push_back(1); });
  janitor.post("lane", [&] { throw std::runtime_error("on purpose"); });
  janitor.post("lane", [&] {
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

TEST(Janitor, ALaneThatWaitsHoldsUpNoOther) {
  std::promise<void> release, done;  // outlive the tasks, one of which may begin late
  auto released = release.get_future();
  Janitor janitor;
  janitor.post("redial a guest that hangs", [&] { released.wait_for(2 * limit); });
  janitor.post("end of another", [&] { done.set_value(); });
  EXPECT_EQ(done.get_future().wait_for(limit), std::future_status::ready);
  release.set_value();
}

TEST(Janitor, TasksOfALaneNeverRunAtOnce) {
  Janitor janitor;
  constexpr int lanes = 8, rounds = 200;
  std::atomic<int> inside[lanes]{}, ran{0}, together{0};
  for (int i = 0; i < lanes * rounds; ++i)
    janitor.post("lane " + std::to_string(i % lanes), [&, lane = i % lanes] {
      if (inside[lane].fetch_add(1) != 0) ++together;
      std::this_thread::yield();
      inside[lane].fetch_sub(1);
      ++ran;
    });
  const auto end = std::chrono::steady_clock::now() + limit;
  while (ran < lanes * rounds && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  EXPECT_EQ(ran, lanes * rounds);
  EXPECT_EQ(together, 0);
}

TEST(Janitor, WhatATaskHoldsMayPostWhenItIsLetGo) {
  std::promise<void> done;
  Janitor janitor;
  struct Poster {
    Janitor& janitor;
    std::promise<void>& done;
    ~Poster() {
      janitor.post("second", [&done = done] { done.set_value(); });
    }
  };
  janitor.post("first", [held = std::shared_ptr<Poster>(new Poster{janitor, done})] {});
  EXPECT_EQ(done.get_future().wait_for(limit), std::future_status::ready);
}

TEST(Janitor, StopWaitsForWhatRunsAndDropsWhatWaits) {
  Janitor janitor;
  std::promise<void> started;
  std::atomic<bool> finished{false}, second{false};
  janitor.post("lane", [&] {
    started.set_value();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    finished = true;
  });
  started.get_future().wait();
  janitor.post("lane", [&] { second = true; });
  janitor.stop();
  EXPECT_TRUE(finished);
  EXPECT_FALSE(second);
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
