// The candidates that need no daemon: the fake, libvirt's test driver, the embedded driver; and what is particular to
// them.

#include <csignal>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/contract/virt/hypervisor_contract.hpp"
#include "tests/support/fake_hypervisor.hpp"
#include "tests/support/temporary_folder.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/process.hpp"
#include "vmm/libvirt/embedded_root.hpp"

namespace agentvm::test {

/// A process can run one embedded root only, so the whole program shares this one.
const fs::path& shared_folder() {
  static const TemporaryFolder folder;
  static const bool made = (make_probe_guest(folder.path()), true);
  (void)made;
  return folder.path();
}

namespace {

using Capability = HypervisorCapability;
using Kind = Hypervisor::Event::Kind;

std::shared_ptr<Hypervisor> open_embedded() {
  return open_libvirt({"auto", shared_folder() / "libvirt", find_machine_platform()}, in_seconds(30));
}

}  // namespace

std::vector<Candidate> contract_candidates() {
  std::set<Capability> embedded{Capability::hot_plug, Capability::events, Capability::survives_close};
  if (saves_machines(find_machine_platform())) embedded.insert(Capability::state);
  return {{"Fake", {Capability::events}, [] { return std::make_shared<FakeHypervisor>(); }},
          {"TestDriver",
           {Capability::events},
           [] {
             return open_libvirt({"test:///default", "/nonexistent", {}}, in_seconds(20));
           }},
          {"Embedded", embedded, open_embedded}};
}

namespace {

TEST(EmbeddedHypervisor, AKilledEmulatorIsACrash) {
  const auto hypervisor = open_embedded();
  const auto recorder = std::make_shared<Recorder>();
  hypervisor->on_event([recorder](const Hypervisor::Event& event) { (*recorder)(event); });
  hypervisor->start(probe_machine(shared_folder(), "avm-crash", "idle"), Hypervisor::Start::running, in_seconds(60));
  const auto pid = hypervisor->pid("avm-crash", in_seconds(5));
  ASSERT_TRUE(pid);
  ::kill(*pid, SIGKILL);
  EXPECT_TRUE(recorder->saw("avm-crash", Kind::crashed));
  EXPECT_FALSE(hypervisor->find("avm-crash", in_seconds(20)));
  EXPECT_FALSE(hypervisor->pid("avm-crash", in_seconds(5)));
}

TEST(EmbeddedHypervisor, TheEmulatorRunsConfined) {
  const auto hypervisor = open_embedded();
  hypervisor->start(probe_machine(shared_folder(), "avm-confined", "idle"), Hypervisor::Start::paused, in_seconds(60));
  const auto pid = hypervisor->pid("avm-confined", in_seconds(5)).value();
  const auto status = read_file("/proc/" + std::to_string(pid) + "/status", 65536);
  const auto limits = read_file("/proc/" + std::to_string(pid) + "/limits", 65536);
  hypervisor->stop("avm-confined", in_seconds(30));
  EXPECT_EQ(status.substr(status.find("\nSeccomp:"), 11), "\nSeccomp:\t2");
  EXPECT_NE(status.find("\nCapEff:\t0000000000000000"), std::string::npos);
  EXPECT_NE(limits.find("Max core file size        0 "), std::string::npos);
}

TEST(EmbeddedHypervisor, AThreadThatStartsEmulatorsGivesThemNothingAndKeepsWhatLibvirtNeeds) {
  if (::geteuid() != 0) GTEST_SKIP() << "not root here: there is no capability to give or to keep";
  std::string executed;
  int kept = -1;
  std::thread([&] {
    libvirt::drop_capabilities_of_children();
    ProcessSpec spec;
    spec.argv = {"cat", "/proc/self/status"};
    executed = run(spec, in_seconds(10)).out;
    // What libvirt does in its child before it executes an emulator to ask it for its features.
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    const std::uint32_t wanted = 1u << CAP_SETPCAP;
    __user_cap_data_struct sets[2] = {{wanted, wanted, wanted}, {0, 0, 0}};
    kept = static_cast<int>(::syscall(SYS_capset, &header, sets));
  }).join();
  EXPECT_EQ(kept, 0);
  for (const char* set : {"\nCapPrm:", "\nCapEff:", "\nCapAmb:"})
    EXPECT_NE(executed.find(std::string(set) + "\t0000000000000000"), std::string::npos) << set << executed;
}

TEST(EmbeddedHypervisor, OneRootPerProcess) {
  const auto hypervisor = open_embedded();
  const TemporaryFolder other;
  const auto error = error_of([&] {
    open_libvirt({"embed", other / "libvirt", find_machine_platform()}, in_seconds(5));
  });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::wrong_state);
}

TEST(OpenLibvirt, OtherUrisAreRefused) {
  for (const char* uri : {"", "qemu+ssh://host/system", "xen:///", "qemu:///embed?root=/somewhere/else"})
    EXPECT_EQ(error_of([&] {
                open_libvirt({uri, "/nonexistent", {}}, in_seconds(5));
              })
                  .value()
                  .code(),
              ErrorCode::usage)
        << uri;
}

TEST(OpenLibvirt, ARootTooLongForSocketsIsRefusedWithTheRemedy) {
  const fs::path root = "/" + std::string(60, 'r');
  const auto error = error_of([&] { open_libvirt({"embed", root, {}}, in_seconds(5)); });
  ASSERT_TRUE(error);
  EXPECT_THAT(error->hint(), ::testing::HasSubstr("AGENTVM_HOME"));
}

}  // namespace
}  // namespace agentvm::test
