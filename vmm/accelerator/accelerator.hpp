#pragma once
// KVM or emulation: decided by trial, because a host may offer a /dev/kvm that cannot run a kernel. Theory of
// operation: README.md here.

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/clock.hpp"
#include "vmm/domain_xml.hpp"
#include "vmm/hypervisor.hpp"

namespace agentvm {

enum class AcceleratorChoice { automatic, kvm, tcg };
/// "auto", "kvm" or "tcg"; throws `usage`.
AcceleratorChoice parse_accelerator_choice(std::string_view text);

/// One thing that was tried. For doctor.
struct AcceleratorEvidence {
  std::string step;  ///< device, api, loop, boot
  bool passed = false;
  std::string finding;  ///< for people
};

struct AcceleratorVerdict {
  Accelerator accelerator = Accelerator::tcg;
  std::string reason;  ///< one sentence
  std::vector<AcceleratorEvidence> evidence;
  bool from_cache = false;
};

/// The image to boot in the trial: its init knows `agentvm.trial=NONCE`.
struct TrialImage {
  std::filesystem::path kernel, initrd;
};

/// What the decision is made from; tests put their own in.
struct AcceleratorProbes {
  std::function<AcceleratorEvidence()> device;
  std::function<AcceleratorEvidence(Deadline)> loop;
  std::function<AcceleratorEvidence(const TrialImage&, Deadline)> boot;
};
/// The real ones.
AcceleratorProbes host_accelerator_probes(const MachinePlatform& platform);

/// Tries in order: /dev/kvm, the speed of a small loop, a boot of `image` to its marker (at most 90 s); the first that
/// fails makes it TCG. The verdict is kept in `cache_file` for as long as host boot, emulator, kernel and initrd stay
/// the same. Without an image nothing is proven: TCG, and nothing is kept. `kvm` without proof throws `host_lacks` with
/// the evidence; `tcg` tries nothing.
AcceleratorVerdict decide_accelerator(AcceleratorChoice choice, const std::optional<TrialImage>& image,
                                      const MachinePlatform& platform, const std::filesystem::path& cache_file,
                                      const AcceleratorProbes& probes, Deadline deadline);

// The probes one by one.
/// Runs `turns` turns of a counted loop in 64-bit mode in a virtual machine of our own; in a child, ended at the
/// deadline. A turn takes about a nanosecond on hardware, 0.2 microseconds where KVM itself runs in an emulator, over 1
/// where the host's KVM emulates every instruction, and that one never gets a kernel up: the limit is 0.6.
AcceleratorEvidence probe_kvm_loop(Deadline deadline, unsigned turns = 200'000);
AcceleratorEvidence probe_kvm_device(const std::filesystem::path& device = "/dev/kvm");
/// Boots `image` in the emulator with `accelerator` and waits for its marker on the serial port.
AcceleratorEvidence probe_boot(const MachinePlatform& platform, Accelerator accelerator, const TrialImage& image,
                               Deadline deadline);

}  // namespace agentvm
