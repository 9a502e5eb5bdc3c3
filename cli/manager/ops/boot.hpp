#pragma once
// A machine from its definition to the last readiness probe.

#include "cli/manager/ops/core.hpp"
#include "cli/manager/ops/timeline.hpp"
#include "cli/manager/service.hpp"

namespace agentvm::manager {

/// One thing that must hold before a sandbox is running. `probe` returns when it does and throws at the deadline.
struct ReadinessStep {
  std::string what;  ///< for people: "the guest's agent answers"
  std::function<void(Deadline)> probe;
  std::string hint;  ///< a command
  milliseconds limit;
};

/// Runs the steps in order, each within its limit; an error names the step and carries its hint.
void wait_until_ready(const std::vector<ReadinessStep>& steps, const Progress& progress,
                      const std::function<void(const std::string&)>& passed);

/// The machine of a sandbox whose files are in `folder`.
MachineSpec machine_spec(const Core& core, const SandboxRecord& record, const fs::path& folder, const Image& image);

/// Decides the accelerator and what follows from it.
void choose_accelerator(Core& core, CallContext& call, SandboxRecord& record, const Image& image);

enum class RootDisk {
  kept,  ///< it has been run
  made,  ///< just now: nothing is on it
};

/// Starts share and machine of a prepared sandbox and waits for every readiness step. Expects the state `starting`. The
/// caller undoes on an error (`tear_down`). A machine whose disk is `made` goes on from a template where that is wished
/// for and one fits; whatever goes wrong with that, it boots. The record says which it was, and why.
void boot_machine(Core& core, CallContext& call, const SandboxRecord& record, const Image& image, RootDisk disk,
                  Timeline& timeline);

/// Starts the machine of a saved sandbox and lets it go on from its state; `goes_on` is called when that is loaded and
/// nothing of it has run yet. Expects the state `starting`. The caller undoes on an error (`tear_down`).
void continue_machine(Core& core, CallContext& call, const SandboxRecord& record, const Image& image,
                      const MachineState& state, const std::function<void()>& goes_on);

/// What a helper on this host is run with: KVM where it works with the image's kernel (tried once, see
/// `decide_accelerator`).
Accelerator usable_accelerator(Core& core, const Image& image);

}  // namespace agentvm::manager
