// What much work costs: a long history, and a file that neither compresses nor fits into the memory of the child. Made
// by `git fast-import` from a fixed seed, brought by the real child.
#include <fstream>
#include <random>

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/contract/sync/sync_fixture.hpp"
#include "tests/support/child_watch.hpp"
#include "tests/support/fake_streams.hpp"
#include "tests/support/tier.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::sync {
namespace {

using test::Repo;

constexpr std::uint64_t seed = 20260101;
constexpr int commit_count = 10'000;

class Volume : public test::HostAndGuest {
 protected:
  /// The stream is a file: what a gigabyte needs is not held here.
  void import(const fs::path& stream) {
    const auto in = open_file(stream, O_RDONLY);
    ProcessSpec spec;
    spec.argv = {"git", "-c", "core.compression=0", "fast-import", "--quiet", "--big-file-threshold=1m"};
    spec.cwd = guest.path().string();
    spec.fds = {{0, in.get()}};
    auto process = Process::spawn(spec);
    const auto status = process.wait(Deadline::after(std::chrono::seconds(300)));
    ASSERT_TRUE(status && status->ok());
    fs::remove(stream);
    guest.git({"reset", "--quiet", "--hard"});
  }

  std::string begin_commit(int number, const std::string& from) const {
    const auto text = fmt::format("change {}\n", number);
    return fmt::format("commit refs/heads/main\ncommitter A <a@b> {} +0000\ndata {}\n{}{}", 1'700'000'000 + number,
                       text.size(), text, from.empty() ? "" : fmt::format("from {}\n", from));
  }

  struct Brought {
    SyncOutcome outcome;
    test::ChildWatch::Cost cost;
  };
  Brought bring(const std::string& what, std::uint64_t memory_bytes) {
    auto wanted = request();
    wanted.limits.memory = memory_bytes;
    test::ChildWatch child("agentvm-git");
    const auto begun = std::chrono::steady_clock::now();
    auto outcome = sync_now(wanted, streams, no_progress(), Deadline::after(std::chrono::seconds(500)));
    const auto took = std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - begun);
    const auto cost = child.cost();
    RecordProperty(what + "_wall_milliseconds", static_cast<int>(took.count()));
    RecordProperty(what + "_cpu_milliseconds", static_cast<int>(cost.cpu.count()));
    RecordProperty(what + "_private_kibibytes", static_cast<int>(cost.private_bytes >> 10));
    EXPECT_LE(cost.private_bytes, memory_bytes);
    return {std::move(outcome), cost};
  }

  test::FakeStreams streams;
};

/// With folders, and branches and tags beside the one in hand.
TEST_F(Volume, TenThousandCommitsComeHome) {
  std::mt19937_64 random(seed);
  std::ofstream stream(dir / "stream", std::ios::binary);
  const auto first = guest.tip();
  for (int number = 1; number <= commit_count; ++number) {
    const auto text = fmt::format("{} {:x}\n", number, random());
    stream << begin_commit(number, number == 1 ? first : "");
    stream << fmt::format("M 100644 inline d{}/e{}/f{}.txt\ndata {}\n{}\n", number % 7, random() % 30, random() % 40,
                          text.size(), text);
    if (number % 1000 == 0)
      stream << fmt::format(
          "reset refs/heads/part-{0}\nfrom refs/heads/main\n\nreset refs/tags/t{0}\nfrom refs/heads/main\n\n", number);
  }
  stream.close();
  import(dir / "stream");
  ASSERT_EQ(guest.git({"rev-list", "--count", "main"}), std::to_string(commit_count + 1));

  const auto [outcome, cost] = bring("commits", 64u << 20);
  EXPECT_GT(cost.seen, 0);
  EXPECT_TRUE(outcome.moved) << to_text(outcome);
  EXPECT_EQ(outcome.commits, static_cast<std::uint64_t>(commit_count));
  EXPECT_TRUE(outcome.rejected.empty());
  EXPECT_EQ(host.tip("main"), guest.tip("main"));
  EXPECT_EQ(host.git({"rev-list", "--count", "main"}), std::to_string(commit_count + 1));
  for (int number = 1000; number <= commit_count; number += 1000) {
    EXPECT_EQ(host.tip(fmt::format("refs/agentvm/box/part-{}", number)), guest.tip(fmt::format("part-{}", number)));
    EXPECT_EQ(host.tip(fmt::format("refs/agentvm/box/tags/t{}", number)), guest.tip(fmt::format("t{}", number)));
  }
  // Each object once: what the guest has on these branches, and nothing else.
  EXPECT_EQ(host.git({"rev-list", "--objects", "--all", "--count"}),
            guest.git({"rev-list", "--objects", "--all", "--count"}));
  EXPECT_EQ(host.status(), "");
  host.fsck();

  const auto again = bring("again", 64u << 20);
  EXPECT_EQ(again.outcome.result, Result::up_to_date);
  EXPECT_EQ(again.outcome.objects, 0u);
}

/// In the full tier it is 1 GiB. Its bytes are looked at, unpacked and hashed as they stream by.
TEST_F(Volume, AFileOfRandomBytesComesHome) {
  const auto size_bytes = (test::full_tier() ? 1024ULL : 160ULL) << 20;
  std::mt19937_64 random(seed);
  std::ofstream stream(dir / "stream", std::ios::binary);
  stream << begin_commit(1, guest.tip()) << fmt::format("M 100644 inline large\ndata {}\n", size_bytes);
  std::vector<std::uint64_t> piece(1u << 17);
  for (std::uint64_t done = 0; done < size_bytes; done += piece.size() * sizeof piece[0]) {
    for (auto& word : piece) word = random();
    stream.write(reinterpret_cast<const char*>(piece.data()),
                 static_cast<std::streamsize>(piece.size() * sizeof piece[0]));
  }
  stream << "\n";
  stream.close();
  import(dir / "stream");

  const auto [outcome, cost] = bring("file", 64u << 20);
  EXPECT_GT(cost.seen, 0);
  EXPECT_TRUE(outcome.moved) << to_text(outcome);
  EXPECT_EQ(outcome.commits, 1u);
  EXPECT_GT(outcome.bytes, size_bytes) << "it does not compress";
  EXPECT_EQ(host.tip("main"), guest.tip("main"));
  EXPECT_EQ(fs::file_size(host.path() / "large"), size_bytes);
  EXPECT_EQ(host.status(), "");
  host.fsck();
}

}  // namespace
}  // namespace agentvm::sync
