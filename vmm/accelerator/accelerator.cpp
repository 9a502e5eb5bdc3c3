#include "vmm/accelerator/accelerator.hpp"

#include <fmt/format.h>
#include <sys/stat.h>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/json.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/text.hpp"

namespace agentvm {
namespace {

constexpr auto boot_limit =
    std::chrono::seconds(90);  // 8 s were seen in a guest that is emulated itself, and hosts are busy
constexpr std::string_view cache_schema = "agentvm.accelerator/1";

std::string file_mark(const fs::path& path) {
  struct stat status {};
  check_errno(::stat(path.c_str(), &status), path.string());
  return fmt::format("{}:{}:{}:{}.{}", path.string(), status.st_ino, status.st_size, status.st_mtim.tv_sec,
                     status.st_mtim.tv_nsec);
}

/// What the verdict depends on. A change of any makes a new trial.
Json cache_key(const TrialImage& image, const MachinePlatform& platform) {
  auto boot_id = read_file_if_exists("/proc/sys/kernel/random/boot_id", 128).value_or("");
  while (!boot_id.empty() && boot_id.back() == '\n') boot_id.pop_back();
  return Json{{"boot_id", boot_id},
              {"emulator", file_mark(platform.emulator)},
              {"firmware", file_mark(platform.firmware)},
              {"kernel", file_mark(image.kernel)},
              {"initrd", file_mark(image.initrd)}};
}

Json cached_form(const AcceleratorVerdict& verdict, const Json& key) {
  Json evidence = Json::array();
  for (const auto& entry : verdict.evidence)
    evidence.push_back({{"step", entry.step}, {"passed", entry.passed}, {"finding", entry.finding}});
  return Json{{"schema", cache_schema},
              {"key", key},
              {"accelerator", verdict.accelerator == Accelerator::kvm ? "kvm" : "tcg"},
              {"reason", verdict.reason},
              {"evidence", evidence}};
}

std::optional<AcceleratorVerdict> read_cache(const fs::path& file, const Json& key) {
  try {
    const auto text = read_file_if_exists(file, 1u << 20);
    if (!text) return std::nullopt;
    const auto json = parse_json(*text, file.string());
    if (require<std::string>(json, "schema") != cache_schema || json.at("key") != key) return std::nullopt;
    AcceleratorVerdict verdict;
    const auto name = require<std::string>(json, "accelerator");
    if (name != "kvm" && name != "tcg") return std::nullopt;
    verdict.accelerator = name == "kvm" ? Accelerator::kvm : Accelerator::tcg;
    verdict.reason = require<std::string>(json, "reason");
    for (const auto& entry : require<Json>(json, "evidence"))
      verdict.evidence.push_back({require<std::string>(entry, "step"), require<bool>(entry, "passed"),
                                  require<std::string>(entry, "finding")});
    verdict.from_cache = true;
    return verdict;
  } catch (const std::exception& error) {  // a damaged cache is no cache
    log::warn("accelerator", "{} is not readable and is made anew: {}", file.string(), error.what());
    return std::nullopt;
  }
}

AcceleratorVerdict conclude(std::vector<AcceleratorEvidence> evidence) {
  AcceleratorVerdict verdict;
  const bool proven = evidence.back().passed && evidence.back().step == "boot";
  verdict.accelerator = proven ? Accelerator::kvm : Accelerator::tcg;
  verdict.reason = proven ? "KVM ran the image's kernel: " + evidence.back().finding : evidence.back().finding;
  verdict.evidence = std::move(evidence);
  return verdict;
}

AcceleratorVerdict try_out(const std::optional<TrialImage>& image, const AcceleratorProbes& probes, Deadline deadline) {
  std::vector<AcceleratorEvidence> evidence{probes.device()};
  if (evidence.back().passed) evidence.push_back(probes.loop(deadline));
  if (evidence.back().passed && image)
    evidence.push_back(probes.boot(*image, deadline.sooner(Deadline::after(boot_limit))));
  if (evidence.back().passed && !image)
    evidence.push_back({"boot", false, "KVM is not proven yet: there is no image to boot with it"});
  return conclude(std::move(evidence));
}

[[noreturn]] void refuse_kvm(const AcceleratorVerdict& verdict) {
  throw Error(ErrorCode::host_lacks, fmt::format("KVM was asked for and does not work here: {}", verdict.reason),
              "agentvm doctor");
}

}  // namespace

AcceleratorChoice parse_accelerator_choice(std::string_view text) {
  if (text == "auto") return AcceleratorChoice::automatic;
  if (text == "kvm") return AcceleratorChoice::kvm;
  if (text == "tcg") return AcceleratorChoice::tcg;
  throw Error(ErrorCode::usage, fmt::format("accelerator '{}' is not one of auto, kvm, tcg", clean_guest_text(text)));
}

AcceleratorProbes host_accelerator_probes(const MachinePlatform& platform) {
  return {[] { return probe_kvm_device(); }, [](Deadline deadline) { return probe_kvm_loop(deadline); },
          [platform](const TrialImage& image, Deadline deadline) {
            return probe_boot(platform, Accelerator::kvm, image, deadline);
          }};
}

AcceleratorVerdict decide_accelerator(AcceleratorChoice choice, const std::optional<TrialImage>& image,
                                      const MachinePlatform& platform, const fs::path& cache_file,
                                      const AcceleratorProbes& probes, Deadline deadline) {
  if (choice == AcceleratorChoice::tcg) {
    AcceleratorVerdict verdict;
    verdict.reason = "emulation was asked for";
    return verdict;
  }
  AcceleratorVerdict verdict;
  if (image) {
    const auto key = cache_key(*image, platform);
    if (auto cached = read_cache(cache_file, key)) {
      verdict = std::move(*cached);
    } else {
      verdict = try_out(image, probes, deadline);
      ensure_private_dir(cache_file.parent_path());
      write_file_atomic(cache_file, cached_form(verdict, key).dump(2) + "\n");
    }
  } else {
    verdict = try_out(image, probes, deadline);
  }
  if (choice == AcceleratorChoice::kvm && verdict.accelerator != Accelerator::kvm) refuse_kvm(verdict);
  return verdict;
}

}  // namespace agentvm
