// The last question: does the image's own kernel come up?

#include <algorithm>
#include <chrono>

#include <fmt/format.h>
#include <poll.h>

#include "vmm/accelerator/accelerator.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/process.hpp"
#include "vmm/base/text.hpp"
#include "vmm/libvirt/embedded_root.hpp"

namespace agentvm {
namespace {

constexpr std::size_t console_limit_bytes = 1u << 20;

std::vector<std::string> trial_arguments(const MachinePlatform& platform, Accelerator accelerator,
                                         const TrialImage& image, const std::string& nonce) {
  const bool kvm = accelerator == Accelerator::kvm;
  return {platform.emulator.string(),
          "-nodefaults",
          "-no-user-config",
          "-no-reboot",
          "-display",
          "none",
          "-monitor",
          "none",
          "-machine",
          "q35",
          "-accel",
          kvm ? "kvm" : "tcg",
          "-cpu",
          kvm ? "host" : "max",
          "-smp",
          "1",
          "-m",
          "256",
          "-bios",
          platform.firmware.string(),
          "-kernel",
          image.kernel.string(),
          "-initrd",
          image.initrd.string(),
          "-append",
          fmt::format("console=ttyS0 quiet panic=-1 no_timer_check agentvm.trial={}", nonce),
          "-chardev",
          "file,id=serial,path=/dev/fd/1",
          "-serial",
          "chardev:serial",
          "-sandbox",
          "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"};
}

std::string last_line(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  const auto line = text.find_last_of('\n');
  return clean_guest_text(line == std::string::npos ? text : text.substr(line + 1), Newlines::escape, 200);
}

}  // namespace

AcceleratorEvidence probe_boot(const MachinePlatform& platform, Accelerator accelerator, const TrialImage& image,
                               Deadline deadline) {
  const auto nonce = random_hex(8);
  const auto marker = "agentvm-trial " + nonce;
  const auto began = std::chrono::steady_clock::now();
  auto output = make_pipe(), errors = make_pipe();
  ProcessSpec spec;
  spec.argv = trial_arguments(platform, accelerator, image, nonce);
  spec.fds = {{1, output.second.get()}, {2, errors.second.get()}};
  spec.die_with_parent = true;
  spec.in_child = [] {  // the trial must not succeed by a right that the real machine will not have
    libvirt::drop_capabilities_of_children();
    return 0;
  };
  auto process = Process::spawn(spec);  // killed and reaped when this returns
  output.second.reset();
  errors.second.reset();
  std::string seen;
  char buffer[4096];
  try {
    while (seen.size() < console_limit_bytes) {
      const auto count = read_some(output.first.get(), buffer, sizeof buffer, deadline);
      if (count == 0) break;
      seen.append(buffer, count);
      if (seen.find(marker) != std::string::npos) {
        const auto span =
            std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - began);
        return {"boot", true, fmt::format("the image's kernel was up after {} ms", span.count())};
      }
    }
  } catch (const Error& error) {
    if (error.code() != ErrorCode::timed_out) throw;
    return {"boot", false, fmt::format("the image's kernel did not come up in time; last seen: '{}'", last_line(seen))};
  }
  // It ended by itself. What it said on standard error is short, or lost beyond what a pipe holds.
  std::string complaint(4096, '\0');
  const auto status = process.terminate(milliseconds(500));
  complaint.resize(wait_for(errors.first.get(), POLLIN, Deadline::after(milliseconds(0)))
                       ? read_some(errors.first.get(), complaint.data(), complaint.size(), deadline)
                       : 0);
  return {"boot", false,
          fmt::format("the emulator ended ({}) before the image's kernel was up: {}", status.describe(),
                      last_line(complaint.empty() ? seen : complaint))};
}

}  // namespace agentvm
