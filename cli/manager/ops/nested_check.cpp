#include "cli/manager/ops/nested_check.hpp"

#include <fmt/format.h>

#include "cli/manager/ops/helper_guest.hpp"
#include "guest/control/nested.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"
#include "vmm/plan.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds probe_limit{20'000};
constexpr int schema = 1;
constexpr const char* helper_prefix = ".doctor-";

fs::path cache_file(Core& core) {
  return core.paths().host_facts() / "nested.json";
}

/// What a verdict is about: another of these, and it has to be tried again.
Json subject_of(const SandboxRecord& record) {
  return {{"boot_id", read_host_facts().boot_id}, {"accelerator", record.accelerator}, {"image", record.image_digest}};
}

Json to_json(const guest::NestedVerdict& verdict) {
  return {{"ran", verdict.ran},
          {"reason", verdict.reason},
          {"ratio", verdict.ratio},
          {"exit_nanoseconds", verdict.exit_nanoseconds}};
}

guest::NestedVerdict probe(Core& core, const SandboxRecord& record, LiveSandbox& live) {
  const auto control = live.control();
  if (!control) throw Error(ErrorCode::operation_failed, "the guest's agent does not answer");
  const auto verdict = guest::probe_nested(*control, Deadline::after(probe_limit));
  ensure_private_dir(core.paths().host_facts());
  write_file_atomic(
      cache_file(core),
      dump_json({{"schema", schema}, {"subject", subject_of(record)}, {"verdict", to_json(verdict)}}) + "\n");
  return verdict;
}

/// What makes the host's KVM give its guests what they need for machines of their own.
std::string remedy(const SandboxRecord& record) {
  if (record.accelerator != "kvm") return "";
  return nested_remedy(fs::exists("/sys/module/kvm_amd") ? "kvm_amd" : "kvm_intel");
}

}  // namespace

Check try_nested(Core& core, CallContext& call, const std::map<std::string, std::string>& environment) {
  const auto parent = core.paths().data;
  ensure_private_dir(parent);
  HelperGuest::sweep(core, parent, helper_prefix);
  const auto folder = parent / (helper_prefix + random_hex(4));
  ensure_private_dir(folder);
  HelperRelay relay(call, "nested", "trying a virtual machine in a guest");
  Check check{"nested-l2", CheckStatus::pass, "", ""};
  try {
    const HelperGuest guest(core, relay,
                            {.name = "doctor",
                             .folder = folder,
                             .flags = {{"memory", "1G"}, {"vcpus", "1"}, {"network", "none"}, {"nested", "true"}},
                             .environment = environment});
    const auto record = core.store().get(guest.name());
    const auto verdict = probe(core, record, *guest.live());
    check.data = to_json(verdict);
    check.data["accelerator"] = record.accelerator;
    if (verdict.ran) {
      check.finding = fmt::format(
          "a virtual machine ran in a guest ({}): {:.2f} of the guest's own speed, {:.1f} microseconds for an exit",
          record.accelerator, verdict.ratio, static_cast<double>(verdict.exit_nanoseconds) / 1000);
    } else {
      check.status = CheckStatus::warn;
      check.finding = "no virtual machine runs in a guest: " + verdict.reason;
      check.remedy = remedy(record);
    }
  } catch (const Error& error) {
    check.status = CheckStatus::warn;
    check.finding = error.what();
    check.remedy = error.hint();
  }
  remove_tree(folder);
  return check;
}

void settle_nested(Core& core, const SandboxRecord& record) {
  if (!record.nested || !nested_verdict(core, record).is_null()) return;
  core.janitor().post("nested " + record.name.str(), [&core, record] {
    try {
      const auto live = core.live(record.name);
      if (!live) return;
      if (const auto verdict = probe(core, record, *live); !verdict.ran)
        log::warn("nested", "virtual machines do not run in {}: {}", record.name.str(), verdict.reason);
    } catch (const Error& error) {
      log::info("nested", "{}: {}", record.name.str(), error.what());
    }
  });
}

Json nested_verdict(Core& core, const SandboxRecord& record) {
  constexpr std::size_t limit_bytes = 64u << 10;
  if (!record.nested) return nullptr;
  try {
    const auto text = read_file_if_exists(cache_file(core), limit_bytes);
    if (!text) return nullptr;
    const auto cached = parse_json(*text, cache_file(core).string());
    if (require<int>(cached, "schema") != schema || require<Json>(cached, "subject") != subject_of(record))
      return nullptr;
    return require<Json>(cached, "verdict");
  } catch (const Error&) {
    return nullptr;  // it is tried again
  }
}

}  // namespace agentvm::manager
