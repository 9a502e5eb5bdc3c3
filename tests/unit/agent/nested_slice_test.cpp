// The guest's own virtual machines get a group with caps: put there by the agent, told to the host, checked there.
#include "guest/agent/nested_slice.hpp"

#include <fstream>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "guest/agent/server.hpp"
#include "guest/control/control.hpp"
#include "guest/control/nested.hpp"
#include "tests/support/temporary_folder.hpp"

namespace agentvm::guest {
namespace {

using agent::nested_state;
using agent::NestedSlice;
using Take = agent::NestedSlice::Take;
using test::error_of;
using testing::HasSubstr;

/// Folders as the kernel shows them; what is written there stays to be looked at.
struct Guest {
  Guest() {
    for (const char* folder : {"", "agentvm.nested", "agentvm.nested/machines"}) {
      fs::create_directories(cgroups / folder);
      for (const char* file : {"cgroup.subtree_control", "memory.max", "cpu.max", "cgroup.procs", "memory.events"})
        put(fs::path("cgroup") / folder / file, "");
    }
  }
  void put(const fs::path& path, const std::string& text) { std::ofstream(root / path) << text; }
  std::string in_group(const char* file) { return read_file(cgroups / "agentvm.nested/machines" / file); }
  /// A process with these things open.
  void process(const std::string& pid, const std::vector<std::string>& open) {
    fs::create_directories(proc / pid / "fd");
    for (std::size_t i = 0; i < open.size(); ++i)
      fs::create_symlink(open[i], proc / pid / "fd" / std::to_string(i + 3));
  }

  test::TemporaryFolder root;
  const fs::path cgroups = root / "cgroup", proc = root / "proc";
  NestedSlice slice{cgroups, proc};
};

TEST(NestedSlice, SetsItsLimits) {
  Guest guest;
  guest.slice.set_up({.memory_bytes = 1u << 30, .cpus = 2});
  EXPECT_EQ(guest.in_group("memory.max"), "1073741824");
  EXPECT_EQ(guest.in_group("cpu.max"), "200000 100000");
  EXPECT_EQ(read_file(guest.cgroups / "cgroup.subtree_control"), "+memory +cpu");
  EXPECT_EQ(read_file(guest.cgroups / "agentvm.nested/cgroup.subtree_control"), "+memory +cpu");
  Guest free;
  free.slice.set_up({});
  EXPECT_EQ(free.in_group("memory.max"), "max");
  EXPECT_EQ(free.in_group("cpu.max"), "max 100000");
}

TEST(NestedSlice, WithoutCgroup2SaysSo) {
  const test::TemporaryFolder empty;
  const auto error = error_of([&] { NestedSlice(empty.path(), empty.path()).set_up({}); });
  ASSERT_TRUE(error);
  EXPECT_THAT(error->message(), HasSubstr("cgroup.subtree_control"));
  EXPECT_TRUE(nested_state(empty / "absent").is_null());
}

TEST(NestedSlice, TakesWhoHoldsAMachineOpenAndNobodyElse) {
  Guest guest;
  guest.process("17", {"/dev/null", "/dev/kvm", "anon_inode:kvm-vm"});
  guest.process("18", {"/dev/kvm"});  // asks what KVM can do
  guest.process("19", {"anon_inode:kvm-vcpu:0", "/tmp/anon_inode:kvm-vm"});
  guest.process("self", {"anon_inode:kvm-vm"});
  guest.process("20x", {"anon_inode:kvm-vm"});
  guest.put("proc/uptime", "1 1\n");
  EXPECT_EQ(guest.slice.gather(Take::own), 1u);
  EXPECT_EQ(guest.in_group("cgroup.procs"), "17");
  guest.put("cgroup/agentvm.nested/machines/cgroup.procs", "17\n");
  EXPECT_EQ(guest.slice.gather(Take::own), 0u) << "it is there";
  guest.process("7", {"anon_inode:kvm-vm"});
  EXPECT_EQ(guest.slice.gather(Take::own), 1u) << "17 is not 7";
}

/// libvirt still puts threads into its groups while a machine starts, which the kernel refuses once it is elsewhere.
TEST(NestedSlice, LeavesLibvirtsMachinesUntilTheyAreUp) {
  Guest guest;
  for (const auto& [pid, group] : {std::pair("17", "/machine/qemu-1-box.libvirt-qemu/emulator"),
                                   std::pair("18", "/machine.slice/machine-qemu.scope")}) {
    guest.process(pid, {"anon_inode:kvm-vm"});
    guest.put(fs::path("proc") / pid / "cgroup", std::string("0::") + group + "\n");
  }
  EXPECT_EQ(guest.slice.gather(Take::own), 0u);
  EXPECT_EQ(guest.slice.gather(Take::every), 2u);
  guest.put("proc/17/cgroup", "0::/user.slice/machine\n");
  EXPECT_EQ(guest.slice.gather(Take::own), 1u);
}

TEST(NestedSlice, KnowsTheKernelsEventOfAMachine) {
  using namespace std::string_view_literals;
  EXPECT_TRUE(agent::tells_of_a_machine(
      "change@/devices/virtual/misc/kvm\0ACTION=change\0DEVPATH=/devices/virtual/misc/kvm\0SUBSYSTEM=misc\0CREATED=1\0"
      "COUNT=1\0EVENT=create\0PID=77\0SEQNUM=900\0"sv));
  for (const auto other : {"change@/devices/virtual/misc/kvm\0ACTION=change\0EVENT=destroy\0PID=77\0"sv,
                           "add@/devices/virtual/misc/kvm\0ACTION=add\0EVENT=create\0"sv,
                           "change@/devices/virtual/misc/kvm2\0EVENT=create\0"sv, "change@/devices/virtual/misc/kvm"sv,
                           ""sv, "change@/devices/x\0DEVPATH=/misc/kvm\0EVENT=create\0"sv})
    EXPECT_FALSE(agent::tells_of_a_machine(other)) << other;
}

TEST(NestedSlice, TellsWhatTheKernelSays) {
  Guest guest;
  guest.put("cgroup/agentvm.nested/machines/memory.max", "536870912\n");
  guest.put("cgroup/agentvm.nested/machines/cpu.max", "150000 100000\n");
  guest.put("cgroup/agentvm.nested/machines/cgroup.procs", "17\n23\n");
  guest.put("cgroup/agentvm.nested/machines/memory.events", "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\n");
  EXPECT_EQ(nested_state(guest.cgroups),
            Json::parse(R"({"memory_bytes": 536870912, "cpus": 1, "machines": 2, "ended": 2})"));
  guest.put("cgroup/agentvm.nested/machines/memory.events", "oom 0\noom_kill 2\noom_group_kill 5\n");
  EXPECT_EQ(nested_state(guest.cgroups)["ended"], 0) << "the guest as a whole was short of memory";
  guest.put("cgroup/agentvm.nested/machines/memory.max", "max\n");
  guest.put("cgroup/agentvm.nested/machines/cpu.max", "max 100000\n");
  EXPECT_TRUE(nested_state(guest.cgroups)["memory_bytes"].is_null());
  EXPECT_TRUE(nested_state(guest.cgroups)["cpus"].is_null());
}

TEST(NestedSlice, TheHostHearsOfIt) {
  Guest files;
  fs::create_directories(files.root / "sys/fs");
  fs::rename(files.cgroups, files.root / "sys/fs/cgroup");
  const auto machines = fs::path("sys/fs/cgroup/agentvm.nested/machines");
  auto pair = make_socketpair();
  agent::ServerOptions options;
  options.stage = agent::Stage::running;
  options.root = files.root.path();
  agent::Server server(pair.second.get(), std::move(options));
  std::thread guest([&] { server.run(Deadline::after(milliseconds(60'000))); });
  const auto deadline = Deadline::after(milliseconds(30'000));
  {
    Control control(std::move(pair.first));
    control.hello(deadline);
    const auto before = control.nested("", milliseconds(0), {}, deadline);
    EXPECT_FALSE(before.limited) << "no group has been set up";
    files.put(machines / "memory.max", "1048576\n");
    files.put(machines / "memory.events", "oom 1\noom_kill 1\n");
    const auto after = control.nested(before.token, milliseconds(20'000), {}, deadline);
    EXPECT_TRUE(after.limited);
    EXPECT_EQ(after.memory_bytes, 1048576u);
    EXPECT_EQ(after.ended, 1u);
    EXPECT_EQ(after.cpus, 0u);
  }
  ::shutdown(pair.second.get(), SHUT_RDWR);
  guest.join();
}

TEST(GuestNested, WhatTheProtocolDoesNotAllowIsRefused) {
  const auto parse = [](const char* nested) {
    return error_of([&] { parse_guest_nested({{"token", "0f"}, {"nested", Json::parse(nested)}}); });
  };
  EXPECT_FALSE(parse("null"));
  EXPECT_FALSE(parse(R"({"memory_bytes": null, "cpus": null, "machines": 0, "ended": 0})"));
  for (const char* bad : {"[]", "1", "{}", R"({"memory_bytes": -1, "cpus": null, "machines": 0, "ended": 0})",
                          R"({"memory_bytes": 1, "cpus": "2", "machines": 0, "ended": 0})",
                          R"({"memory_bytes": 1, "cpus": 2, "machines": 1.5, "ended": 0})",
                          R"({"memory_bytes": 1, "cpus": 2, "machines": 1})"})
    EXPECT_TRUE(parse(bad)) << bad;
  EXPECT_TRUE(error_of([] { parse_guest_nested({{"token", "x y"}, {"nested", nullptr}}); }));
}

}  // namespace
}  // namespace agentvm::guest
