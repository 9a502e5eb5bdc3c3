#include "vmm/host.hpp"

#include <gmock/gmock.h>
#include <unistd.h>

#include "tests/support/temporary_folder.hpp"

namespace agentvm {
namespace {

using test::error_of;

struct HostTest : testing::Test {
  test::TemporaryFolder root;
  void put(const fs::path& path, std::string_view text) {
    fs::create_directories((root / path).parent_path());
    write_file_atomic(root / path, text);
  }
  HostTest() {
    put("proc/meminfo", "MemTotal:       32000000 kB\nMemFree:  1 kB\nMemAvailable:   20000000 kB\n");
    put("proc/sys/kernel/random/boot_id", "6f1c-boot\n");
  }
  HostFacts facts() { return read_host_facts(root.path()); }
};

TEST(HostFacts, OfThisMachineArePlausible) {
  const auto facts = read_host_facts();
  EXPECT_GE(facts.memory_total, facts.memory_available);
  EXPECT_GT(facts.memory_available, ByteSize::mebibytes(64));
  EXPECT_GE(facts.cpus, 1U);
  EXPECT_LE(facts.cpus, static_cast<unsigned>(::sysconf(_SC_NPROCESSORS_CONF)));
  EXPECT_EQ(facts.boot_id.size(), 36U);
}

TEST_F(HostTest, WithoutGroupsTheMachineCounts) {
  EXPECT_EQ(facts().memory_total.bytes(), 32'000'000ULL << 10);
  EXPECT_EQ(facts().memory_available.bytes(), 20'000'000ULL << 10);
  EXPECT_EQ(facts().boot_id, "6f1c-boot");
}

TEST_F(HostTest, TheTightestGroupAboveUsCounts) {
  put("proc/self/cgroup", "0::/user.slice/me.scope\n");
  put("sys/fs/cgroup/user.slice/memory.max", "4294967296\n");
  put("sys/fs/cgroup/user.slice/memory.current", "2147483648\n");
  put("sys/fs/cgroup/user.slice/memory.stat", "anon 5\ninactive_file 1073741824\n");
  put("sys/fs/cgroup/user.slice/me.scope/memory.max", "max\n");
  put("sys/fs/cgroup/user.slice/me.scope/cpu.max", "150000 100000\n");
  put("sys/fs/cgroup/user.slice/cpu.max", "max 100000\n");
  EXPECT_EQ(facts().memory_total, ByteSize::gibibytes(4));
  EXPECT_EQ(facts().memory_available, ByteSize::gibibytes(3)) << "file pages that nobody uses can be had";
  EXPECT_LE(facts().cpus, 2U) << "1.5 CPUs round up";
}

TEST_F(HostTest, AQuotaBelowOneCpuIsOne) {
  put("proc/self/cgroup", "0::/\n");
  put("sys/fs/cgroup/cpu.max", "10000 100000\n");
  EXPECT_EQ(facts().cpus, 1U);
}

TEST_F(HostTest, VersionOneGroups) {
  put("proc/self/cgroup", "5:cpu,cpuacct:/job\n4:memory:/job\n3:cpuset:/\n");
  put("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "1073741824\n");
  put("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "2147483648\n");
  put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  put("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "100000\n");
  put("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n");
  put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  EXPECT_EQ(facts().memory_total, ByteSize::gibibytes(1));
  EXPECT_EQ(facts().memory_available, ByteSize(0)) << "more used than allowed leaves nothing, not a huge number";
  EXPECT_EQ(facts().cpus, 1U);
}

TEST_F(HostTest, WithoutMeminfoThereIsNoGuess) {
  fs::remove(root / "proc/meminfo");
  EXPECT_EQ(error_of([&] { facts(); })->code(), ErrorCode::host_lacks);
  put("proc/meminfo", "MemTotal: 5 kB\nMemAvailable: 5 kB\n");
  fs::remove(root / "proc/sys/kernel/random/boot_id");
  EXPECT_EQ(error_of([&] { facts(); })->code(), ErrorCode::host_lacks);
}

}  // namespace
}  // namespace agentvm
