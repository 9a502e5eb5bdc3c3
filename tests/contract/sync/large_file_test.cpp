// Files that are larger than what the child of a sync may hold in memory. Real repositories, the real child.
#include <fstream>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sync/sync.hpp"
#include "tests/contract/sync/sync_fixture.hpp"
#include "tests/support/fake_streams.hpp"
#include "tests/support/tier.hpp"

namespace agentvm::sync {
namespace {

using test::Repo;
using testing::HasSubstr;

class LargeFiles : public test::HostAndGuest {
 protected:
  test::FakeStreams streams;
};

/// Hashed as it streams by, never held. In the full tier it is 1 GiB.
TEST_F(LargeFiles, AFileLargerThanTheMemoryOfTheChildComesThrough) {
  const auto size_bytes = (test::full_tier() ? 1024ULL : 192ULL) << 20;
  guest.write("large", "");
  fs::resize_file(guest.path() / "large", size_bytes);
  guest.git({"add", "large"});
  guest.git({"commit", "--quiet", "--message=large"});
  auto wanted = request();
  wanted.limits.memory = 64u << 20;
  const auto outcome = sync_now(wanted, streams, no_progress(), Deadline::after(std::chrono::seconds(240)));
  EXPECT_TRUE(outcome.moved) << to_text(outcome);
  EXPECT_EQ(fs::file_size(host.path() / "large"), size_bytes);
}

/// git makes deltas of files up to core.bigFileThreshold, half a gigabyte if nobody says otherwise; in the full tier it
/// is one of 320 MiB. Base and result are held at once, on disk, within four times the limit.
TEST_F(LargeFiles, ADeltaOfAFileLargerThanTheMemoryOfTheChildComesThrough) {
  const auto size_bytes = (test::full_tier() ? 320ULL : 96ULL) << 20;
  const auto too_little = size_bytes * 2 / 5, enough = size_bytes * 2 / 3;
  guest.write("large", "");
  fs::resize_file(guest.path() / "large", size_bytes);
  guest.git({"config", "core.bigFileThreshold", "1g"});
  guest.git({"config", "pack.compression", "1"});
  guest.git({"add", "large"});
  guest.git({"commit", "--quiet", "--message=large"});
  auto wanted = request();
  const auto bring = [&](std::uint64_t memory_bytes) {
    wanted.limits.memory = memory_bytes;
    return sync_now(wanted, streams, no_progress(), Deadline::after(std::chrono::seconds(240)));
  };
  EXPECT_TRUE(bring(enough).moved);
  // One against what the host has, and one more against that.
  for (const char* end : {"1", "22"}) {
    std::ofstream(guest.path() / "large", std::ios::app) << end;
    guest.git({"commit", "--quiet", "--all", "--message=longer"});
  }
  const auto before = host.refs();
  try {
    bring(too_little);
    ADD_FAILURE() << "two of them are more than four times that";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(),
                HasSubstr(fmt::format("more memory than sync.limits.memory ({} bytes) allows", too_little)));
    EXPECT_EQ(error.hint(), "agentvm config show");
  }
  EXPECT_EQ(host.refs(), before);
  const auto outcome = bring(enough);
  EXPECT_TRUE(outcome.moved) << to_text(outcome);
  EXPECT_LT(outcome.bytes, 100'000u) << "no delta came";
  EXPECT_EQ(fs::file_size(host.path() / "large"), size_bytes + 3);
  host.fsck();
}

}  // namespace
}  // namespace agentvm::sync
