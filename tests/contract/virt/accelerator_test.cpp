// The probes on this very host. What KVM can do differs from host to host; what must hold everywhere is checked.

#include "vmm/accelerator/accelerator.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/contract/virt/support.hpp"
#include "tests/support/temporary_folder.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::test {
namespace {

using std::chrono::steady_clock;
using ::testing::HasSubstr;

TEST(AcceleratorProbe, EmulationBootsTheImageToItsMarker) {
  const auto image = test_image();
  const auto evidence =
      probe_boot(find_machine_platform(), Accelerator::tcg, {image / "kernel", image / "initrd"}, in_seconds(120));
  EXPECT_TRUE(evidence.passed) << evidence.finding;
}

TEST(AcceleratorProbe, AGuestWithoutTheMarkerFailsByTheDeadline) {
  const TemporaryFolder folder;
  make_probe_guest(folder.path());
  write_file_atomic(folder / "initrd", "no archive");
  const auto began = steady_clock::now();
  const auto evidence =
      probe_boot(find_machine_platform(), Accelerator::tcg, {folder / "kernel", folder / "initrd"}, in_seconds(6));
  EXPECT_FALSE(evidence.passed);
  EXPECT_LT(steady_clock::now() - began, std::chrono::seconds(15));
}

TEST(AcceleratorProbe, AnEmulatorThatCannotStartSaysWhy) {
  const TemporaryFolder folder;
  const auto evidence =
      probe_boot(find_machine_platform(), Accelerator::tcg, {folder / "absent", folder / "absent"}, in_seconds(20));
  EXPECT_FALSE(evidence.passed);
  EXPECT_THAT(evidence.finding, HasSubstr("absent"));
}

TEST(AcceleratorProbe, TheLoopIsJudgedWithinItsDeadline) {
  const auto began = steady_clock::now();
  const auto evidence = probe_kvm_loop(in_seconds(10));
  EXPECT_LT(steady_clock::now() - began, std::chrono::seconds(12));
  EXPECT_FALSE(evidence.finding.empty());
  // Where there is no device there is no pass.
  if (!probe_kvm_device().passed) {
    EXPECT_FALSE(evidence.passed) << evidence.finding;
  }
  EXPECT_FALSE(probe_kvm_loop(Deadline::after(milliseconds(0)), 4'000'000'000u).passed);
}

TEST(AcceleratorProbe, TheDecisionRunsMachinesThatCome) {
  const TemporaryFolder folder;
  const auto image = test_image();
  const auto platform = find_machine_platform();
  const TrialImage trial{image / "kernel", image / "initrd"};
  const auto verdict =
      decide_accelerator(AcceleratorChoice::automatic, trial, platform, folder / "host" / "accelerator.json",
                         host_accelerator_probes(platform), in_seconds(40));
  EXPECT_FALSE(verdict.evidence.empty());
  EXPECT_TRUE(probe_boot(platform, verdict.accelerator, trial, in_seconds(120)).passed) << verdict.reason;
}

}  // namespace
}  // namespace agentvm::test
