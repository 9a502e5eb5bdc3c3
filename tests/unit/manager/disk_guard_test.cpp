#include "cli/manager/ops/disk_guard.hpp"

#include <atomic>
#include <map>
#include <stdexcept>

#include <gmock/gmock.h>

namespace agentvm::manager {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr DiskReserve reserve{8000, 800};

TEST(DiskGuard, AShortageIsLessThanTheReserveOfEither) {
  EXPECT_EQ(shortage_of({.bytes = 8000, .inodes = 800}, reserve), Shortage::none);
  EXPECT_EQ(shortage_of({.bytes = 7999, .inodes = 800}, reserve), Shortage::bytes);
  EXPECT_EQ(shortage_of({.bytes = 8000, .inodes = 799}, reserve), Shortage::inodes);
}

TEST(DiskGuard, TheGreediestIsWhoPutMostThereOfWhatIsShort) {
  const std::vector<DiskUse> uses{{1500, 900}, {9000, 100}, {1000, 50}};
  EXPECT_EQ(greediest(uses, Shortage::bytes, reserve), 1U);
  EXPECT_EQ(greediest(uses, Shortage::inodes, reserve), 0U);
}

TEST(DiskGuard, NobodyIsBlamedForWhatNoGuestDid) {
  EXPECT_EQ(greediest({{999, 0}, {500, 0}}, Shortage::bytes, reserve), std::nullopt);
  EXPECT_EQ(greediest({{1000, 0}, {500, 0}}, Shortage::bytes, reserve), 0U);
  EXPECT_EQ(greediest({}, Shortage::bytes, reserve), std::nullopt);
}

TEST(DiskGuard, WhoCouldNotBeCountedIsBlamedWhereNobodyElseIs) {
  EXPECT_EQ(greediest({{9000, 99}, {10, 10, false}}, Shortage::inodes, reserve), 1U);
  EXPECT_EQ(greediest({{9000, 900}, {10, 10, false}}, Shortage::inodes, reserve), 0U) << "a large old tree is no fault";
  EXPECT_EQ(greediest({{9000, 900}, {10, 950, false}}, Shortage::inodes, reserve), 1U);
}

/// A host whose room is `room` until a test changes it.
class Host {
 public:
  explicit Host(std::uint64_t bytes) : room(bytes) {}

  DiskGuard::Work work() {
    DiskGuard::Work work;
    work.running = [this] {
      ++looks;
      const std::lock_guard lock(mutex);
      std::vector<SandboxName> names;
      for (const auto& [name, use] : uses)
        if (!std::count(paused.begin(), paused.end(), name)) names.push_back(SandboxName::parse(name));
      return names;
    };
    work.room = [this] { return DiskRoom{.bytes = room, .inodes = inodes}; };
    work.reserve = [] { return reserve; };
    work.use = [this](const SandboxName& name) {
      ++counts;
      if (const auto after = room_after_count.load(); after > 0) room = after;
      const std::lock_guard lock(mutex);
      return uses.at(name.str());
    };
    work.pause = [this](const SandboxName& name, Shortage, const DiskRoom&, const std::optional<DiskUse>& use) {
      if (busy.exchange(false)) throw std::runtime_error("busy, on purpose");
      const std::lock_guard lock(mutex);
      paused.push_back(name.str());
      if (!use) ++blameless;
    };
    return work;
  }

  std::vector<std::string> pauses() {
    const std::lock_guard lock(mutex);
    return paused;
  }
  /// After this many more looks; false when they do not come.
  bool looked(int more) {
    const int wanted = looks + more;
    for (const auto deadline = Deadline::after(std::chrono::seconds(20)); !deadline.expired();) {
      if (looks >= wanted) return true;
      system_clock().sleep(milliseconds(2));
    }
    return false;
  }

  std::atomic<std::uint64_t> room, inodes{100000}, room_after_count{0};
  std::atomic<int> looks{0}, counts{0}, blameless{0};
  std::atomic<bool> busy{false};
  std::map<std::string, DiskUse> uses{{"abuser", {50000, 10}}, {"victim", {2000, 10}}};
  std::mutex mutex;  // guards uses and paused
  std::vector<std::string> paused;
};

constexpr milliseconds step{2};

TEST(DiskGuard, WithRoomNothingIsCounted) {
  Host host(8000);
  DiskGuard guard(host.work(), step);
  ASSERT_TRUE(host.looked(5));
  EXPECT_EQ(host.counts, 0);
  EXPECT_THAT(host.pauses(), IsEmpty());
}

TEST(DiskGuard, TheGreediestIsPausedAndTheOthersGoOn) {
  Host host(7000);
  DiskGuard guard(host.work(), step);
  ASSERT_TRUE(host.looked(6));
  EXPECT_THAT(host.pauses(), ElementsAre("abuser")) << "what it wrote is still there, which is not the victim's fault";
  EXPECT_EQ(host.blameless, 0);
}

TEST(DiskGuard, TheNextOneIsPausedWhenItGoesOnFillingTheDisk) {
  Host host(7000);
  DiskGuard guard(host.work(), step);
  ASSERT_TRUE(host.looked(6));
  host.room = 6001;
  ASSERT_TRUE(host.looked(4));
  EXPECT_THAT(host.pauses(), ElementsAre("abuser"));
  host.room = 6000;  // an eighth of the reserve less
  ASSERT_TRUE(host.looked(4));
  EXPECT_THAT(host.pauses(), ElementsAre("abuser", "victim"));
}

TEST(DiskGuard, OneThatIsBusyIsTriedAgain) {
  Host host(7000);
  host.busy = true;
  DiskGuard guard(host.work(), step);
  ASSERT_TRUE(host.looked(6));
  EXPECT_THAT(host.pauses(), ElementsAre("abuser"));
}

TEST(DiskGuard, WhereNoGuestIsToBlameNoneIsPausedAndTheTreesAreNotCountedAgainAndAgain) {
  Host host(7000);
  host.uses = {{"one", {10, 10}}, {"two", {20, 10}}};
  DiskGuard guard(host.work(), step);
  ASSERT_TRUE(host.looked(10));
  EXPECT_THAT(host.pauses(), IsEmpty());
  EXPECT_EQ(host.counts, 2);
}

TEST(DiskGuard, OfTheLastQuarterEveryoneIsKeptAway) {
  Host host(1999);
  host.uses = {{"one", {10, 10}}, {"two", {20, 10}}};
  DiskGuard guard(host.work(), step);
  ASSERT_TRUE(host.looked(4));
  EXPECT_THAT(host.pauses(), ElementsAre("one", "two"));
  EXPECT_EQ(host.counts, 0) << "there is no time to count";
  EXPECT_EQ(host.blameless, 2);
}

TEST(DiskGuard, ADiskThatFillsWhileTreesAreCountedIsNotWaitedFor) {
  Host host(7000);
  host.room_after_count = 1000;
  DiskGuard guard(host.work(), step);
  ASSERT_TRUE(host.looked(4));
  EXPECT_THAT(host.pauses(), ElementsAre("abuser", "victim"));
  EXPECT_EQ(host.counts, 1);
  EXPECT_EQ(host.blameless, 2);
}

TEST(DiskGuard, AShortageOfInodesSaysNothingOfOneOfBytes) {
  Host host(9000);
  host.uses = {{"bytes", {50000, 10}}, {"inodes", {10, 50000}}};
  host.inodes = 700;
  DiskGuard guard(host.work(), step);
  ASSERT_TRUE(host.looked(4));
  EXPECT_THAT(host.pauses(), ElementsAre("inodes"));
  host.room = 7000;
  ASSERT_TRUE(host.looked(4));
  EXPECT_THAT(host.pauses(), ElementsAre("inodes", "bytes"));
}

TEST(DiskGuard, AfterThereWasRoomAgainTheNextShortageIsANewOne) {
  Host host(7000);
  host.uses = {{"one", {10, 10}}};
  DiskGuard guard(host.work(), step);
  ASSERT_TRUE(host.looked(4));
  EXPECT_EQ(host.counts, 1);
  host.room = 9000;
  ASSERT_TRUE(host.looked(3));
  {
    const std::lock_guard lock(host.mutex);
    host.uses = {{"one", {9000, 10}}};
  }
  host.room = 7500;
  ASSERT_TRUE(host.looked(4));
  EXPECT_THAT(host.pauses(), ElementsAre("one"));
}

}  // namespace
}  // namespace agentvm::manager
