// What processes of this host and its file systems say about the limits that we set and read.

#include "vmm/limits.hpp"

#include <chrono>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/support/temporary_folder.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/process.hpp"
#include "vmm/virtiofs/mapped_process.hpp"
#include "vmm/virtiofs/tree_growth.hpp"

namespace agentvm {
namespace {

constexpr auto mebibyte = std::uint64_t{1} << 20;
constexpr milliseconds patience{20'000};

void write_bytes(const fs::path& path, std::uint64_t size) {
  fs::create_directories(path.parent_path());
  std::ofstream(path) << std::string(size, 'x');
}

std::int64_t seconds_now() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// The change time cannot be set: the moment from which on is asked lies behind it instead. It is taken from a clock
/// that ticks a few hundred times a second.
std::int64_t after_now() {
  const auto next = seconds_now() + 1;
  while (seconds_now() < next) system_clock().sleep(milliseconds(20));
  system_clock().sleep(milliseconds(50));
  return next;
}

bool eventually(const std::function<bool()>& probe) {
  for (const auto deadline = Deadline::after(patience); !deadline.expired(); system_clock().sleep(milliseconds(10)))
    if (probe()) return true;
  return probe();
}

TEST(YieldToHost, LowersEveryThreadAndGivesTheKernelItsFirstChoice) {
  // Two threads: the shell's child is a process of its own, python's thread is not.
  auto process = Process::spawn({.argv = {"python3", "-c",
                                          "import threading, time\n"
                                          "threading.Thread(target=time.sleep, args=(100,), daemon=True).start()\n"
                                          "time.sleep(100)"}});
  const auto folder = "/proc/" + std::to_string(process.pid());
  const auto threads = [&] {
    std::vector<int> all;
    for (const auto& thread : fs::directory_iterator(folder + "/task"))
      all.push_back(std::stoi(thread.path().filename().string()));
    return all;
  };
  ASSERT_TRUE(eventually([&] { return threads().size() == 2; }));
  EXPECT_TRUE(yield_to_host(process.pid()));
  for (const int thread : threads()) EXPECT_EQ(::getpriority(PRIO_PROCESS, static_cast<id_t>(thread)), guest_nice);
  EXPECT_EQ(read_file(folder + "/oom_score_adj", 64), std::to_string(guest_oom_score_adj) + "\n");
}

TEST(YieldToHost, OneWhoYieldsMoreAlreadyIsLeftAlone) {
  auto process = Process::spawn({.argv = {"nice", "-n", "14", "sleep", "100"}});
  const auto nice_value = [&] { return ::getpriority(PRIO_PROCESS, static_cast<id_t>(process.pid())); };
  ASSERT_TRUE(eventually([&] { return nice_value() >= 14; }));  // on top of our own
  const int before = nice_value();
  yield_to_host(process.pid());
  EXPECT_EQ(nice_value(), before);
}

TEST(YieldToHost, AProcessThatEndedIsNoError) {
  auto process = Process::spawn({.argv = {"true"}});
  const int pid = process.pid();
  ASSERT_TRUE(process.wait(Deadline::after(patience)));
  EXPECT_FALSE(yield_to_host(pid));
}

TEST(UserScopes, MoveAProcessOrSayWhyNot) {
  const auto found = find_user_scope(Deadline::after(patience));
  auto process = Process::spawn({.argv = {"sleep", "100"}});
  const auto group = [&] { return read_file("/proc/" + std::to_string(process.pid()) + "/cgroup", 65536); };
  const auto before = group(), unit = "agentvm-test-" + random_hex(6);
  const auto scope =
      enter_user_scope(unit, process.pid(), {}, {.memory = ByteSize::gibibytes(1)}, Deadline::after(patience));
  EXPECT_EQ(scope.why_not, found.why_not);
  if (found.why_not.empty()) {  // a host with a user manager; e2e.abuse shows this case in a guest
    EXPECT_EQ(scope.unit, unit + ".scope");
    EXPECT_THAT(group(), testing::HasSubstr("/" + scope.unit));
  } else {
    EXPECT_EQ(scope.unit, "");
    EXPECT_EQ(group(), before);
  }
}

TEST(DiskRoom, IsWhatTheFileSystemSays) {
  const test::TemporaryFolder folder;
  const auto room = disk_room(folder.path());
  EXPECT_GT(room.bytes_total, room.bytes);
  EXPECT_GE(room.inodes_total, room.inodes);
  EXPECT_GT(room.inodes, 0U);
  EXPECT_THROW(disk_room(folder / "absent"), Error);
}

TEST(TreeGrowth, CountsWhatWasChangedSinceAndNothingElse) {
  const test::TemporaryFolder folder;
  write_bytes(folder / "old/file", 3 * mebibyte);
  const auto since = after_now();
  write_bytes(folder / "new/deep/file", mebibyte);
  write_bytes(folder / "new/other", mebibyte);
  fs::create_hard_link(folder / "new/other", folder / "new/second-name");
  fs::create_symlink("/usr", folder / "new/link");
  const auto growth = tree_growth(folder.path(), since, 0, patience);
  EXPECT_TRUE(growth.complete);
  EXPECT_GE(growth.bytes, 2 * mebibyte);
  EXPECT_LT(growth.bytes, 2 * mebibyte + mebibyte / 2) << "a file with two names is one, and /usr is not in there";
  EXPECT_EQ(growth.inodes, 7U) << "the top, new, deep, two files, the second name and the link";
}

TEST(TreeGrowth, FilesThatWereRemovedAndAreHeldOpenCountToo) {
  const test::TemporaryFolder folder;
  ASSERT_EQ(::chmod(folder.path().c_str(), 0777), 0);
  // As a daemon does it: with the ids of its namespace, and with a file of another file system, the guest's memory.
  const auto script = "exec 3>'" + (folder / "held").string() + "' 4>/dev/shm/agentvm-test-$$; rm '" +
                      (folder / "held").string() +
                      "' /dev/shm/agentvm-test-$$; head -c 2097152 /dev/zero >&3; head -c 8388608 /dev/zero >&4;"
                      " echo ready >'" +
                      (folder / "ready").string() + "'; sleep 100";
  auto process = spawn_mapped({.argv = {"sh", "-c", script}}, host_id_map(), Deadline::after(patience));
  ASSERT_TRUE(eventually([&] { return fs::exists(folder / "ready"); }));
  EXPECT_LT(tree_growth(folder.path(), 0, 0, patience).bytes, mebibyte);
  const auto growth = tree_growth(folder.path(), 0, process.pid(), patience);
  EXPECT_GE(growth.bytes, 2 * mebibyte);
  EXPECT_LT(growth.bytes, 3 * mebibyte);
}

TEST(TreeGrowth, FoldersWhoseModeKeepsOthersOutAreCounted) {
  const test::TemporaryFolder folder;
  write_bytes(folder / "closed/file", mebibyte);
  ASSERT_EQ(::chmod((folder / "closed").c_str(), 0), 0);
  const auto growth = tree_growth(folder.path(), 0, 0, patience);
  ASSERT_EQ(::chmod((folder / "closed").c_str(), 0700), 0);
  EXPECT_GE(growth.bytes, mebibyte);
}

TEST(TreeGrowth, ATreeThatTakesTooLongIsSaidToBeSo) {
  const test::TemporaryFolder folder;
  for (int i = 0; i < 20'000; ++i) std::ofstream(folder / std::to_string(i));
  EXPECT_FALSE(tree_growth(folder.path(), 0, 0, milliseconds(1)).complete);
}

TEST(TreeGrowth, AFolderThatIsGoneHasNotGrown) {
  const test::TemporaryFolder folder;
  const auto growth = tree_growth(folder / "gone", 0, 0, patience);
  EXPECT_TRUE(growth.complete);
  EXPECT_EQ(growth.inodes, 0U);
}

}  // namespace
}  // namespace agentvm
