#include "cli/manager/ops/doctor.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/manager/ops/doctor_checks.hpp"
#include "cli/manager/ops/leftovers.hpp"
#include "cli/manager/ops/machine_limits.hpp"
#include "cli/manager/ops/nested_check.hpp"
#include "cli/manager/ops/requests.hpp"
#include "vmm/accelerator/accelerator.hpp"
#include "vmm/base/files.hpp"
#include "vmm/libvirt/libvirt_hypervisor.hpp"
#include "vmm/plan.hpp"
#include "vmm/virtiofs/virtiofsd.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds check_limit{60'000};

/// Runs a check whose failure is an `Error` with its own remedy.
Check guarded(const std::string& id, CheckStatus when_failing, const std::function<Check()>& check) {
  try {
    return check();
  } catch (const Error& error) {
    return {id, when_failing, error.what(), error.hint()};
  }
}

Check libvirt_check(Core& core) {
  return guarded("libvirt", CheckStatus::fail, [&]() -> Check {
    const auto hypervisor = core.hypervisor("auto", Deadline::after(check_limit));
    const auto version = libvirt_version();
    return {"libvirt", CheckStatus::pass, fmt::format("{}; the embedded driver opens", version), "",
            Json{{"uri", hypervisor->uri()}, {"version", version}}};
  });
}

Check virtiofsd_check() {
  return guarded("virtiofsd", CheckStatus::fail, []() -> Check {
    const auto program = find_virtiofsd(Deadline::after(check_limit));
    return {"virtiofsd", CheckStatus::pass, program.version, "",
            Json{{"path", program.path.string()}, {"kind", program.kind == VirtiofsdKind::rust ? "rust" : "c"}}};
  });
}

Check image_check(const std::optional<Image>& image) {
  if (!image)
    return {"image", CheckStatus::warn, "the guest image is not built yet; the first start builds it",
            "agentvm image build"};
  return {"image", CheckStatus::pass,
          fmt::format("{} ({}), built {}", image->name, image->suite, format_time(image->created)), "",
          Json{{"digest", image->digest}}};
}

Check accelerator_check(Core& core, const std::optional<Image>& image) {
  return guarded("accelerator", CheckStatus::fail, [&]() -> Check {
    const auto platform = find_machine_platform();
    ensure_private_dir(core.paths().host_facts());
    const auto trial = image ? std::optional(TrialImage{image->kernel, image->initrd}) : std::nullopt;
    const auto verdict = decide_accelerator(AcceleratorChoice::automatic, trial, platform,
                                            core.paths().host_facts() / "accelerator.json",
                                            host_accelerator_probes(platform), Deadline::after(check_limit));
    Json evidence = Json::array();
    for (const auto& item : verdict.evidence)
      evidence.push_back({{"step", item.step}, {"passed", item.passed}, {"finding", item.finding}});
    const bool kvm = verdict.accelerator == Accelerator::kvm;
    return {"accelerator", kvm ? CheckStatus::pass : CheckStatus::warn,
            kvm ? "KVM: " + verdict.reason : "emulation (TCG), slower: " + verdict.reason, "",
            Json{{"accelerator", kvm ? "kvm" : "tcg"}, {"evidence", evidence}, {"from_cache", verdict.from_cache}}};
  });
}

Check memory_check() {
  return guarded("memory", CheckStatus::fail, []() -> Check {
    const auto host = read_host_facts();
    constexpr auto least = ByteSize::mebibytes(512), comfortable = ByteSize::gibibytes(2);
    const auto most = memory_ceiling(host);
    return {"memory",
            most < least         ? CheckStatus::fail
            : most < comfortable ? CheckStatus::warn
                                 : CheckStatus::pass,
            fmt::format("{} of {} available; a sandbox gets at most {}", host.memory_available.str(),
                        host.memory_total.str(), most.str()),
            "",
            Json{{"available_bytes", host.memory_available.bytes()},
                 {"total_bytes", host.memory_total.bytes()},
                 {"cpus", host.cpus}}};
  });
}

/// The limits of guests on this host. Without a scope they still have those that are named.
Check limits_check(Core& core, const UserScope& scope) {
  return guarded("guest-limits", CheckStatus::warn, [&]() -> Check {
    const auto reserve = disk_reserve(core);
    const Json data{{"scopes", scope.why_not.empty()},
                    {"nice", guest_nice},
                    {"oom_score_adj", guest_oom_score_adj},
                    {"disk_reserve_bytes", reserve.bytes}};
    const auto always =
        fmt::format("guests run at nice {}, {} of the disk stays free", guest_nice, ByteSize(reserve.bytes).str());
    if (scope.why_not.empty())
      return {"guest-limits", CheckStatus::pass, always + ", each has a scope of your systemd", "", data};
    return {"guest-limits", CheckStatus::pass, fmt::format("{}; no systemd scope ({})", always, scope.why_not), "",
            data};
  });
}

Check records_check(Core& core) {
  const auto broken = core.store().list().broken;
  if (broken.empty()) return {"records", CheckStatus::pass, "every sandbox's record can be read", ""};
  return {"records", CheckStatus::warn, fmt::format("{}: {}", broken.front().name, broken.front().error.what()), ""};
}

Check network_check(Core& core) {
  std::vector<std::string> names;
  for (const auto& record : core.store().list().records)
    if (record.network == NetworkMode::nat && record.state == SandboxState::running) names.push_back(record.name.str());
  const Json data{{"nat", names}};
  if (names.empty())
    return {"network", CheckStatus::pass,
            fmt::format("no running sandbox reaches more than {}", network_exposure(NetworkMode::filtered)), "", data};
  return {"network", CheckStatus::warn,
          fmt::format("{} (network: nat): {}", fmt::join(names, ", "), network_exposure(NetworkMode::nat)),
          "agentvm stop " + names.front(), data};
}

Check dev_server_check(Core& core) {
  core.front().open();
  const auto problem = core.front().problem();
  if (problem.empty())
    return {"dev-servers", CheckStatus::pass, "dev servers are listed at " + core.front().index_url(), ""};
  return {"dev-servers", CheckStatus::warn, problem, "agentvm config show", Json::object()};
}

Check certificate_check(const fs::path& file) {
  constexpr std::size_t limit_bytes = 64u << 10;
  return guarded("dev-server-certificate", CheckStatus::warn, [&] {
    return check_certificate(file, read_file_if_exists(file, limit_bytes),
                             read_file_if_exists(trusted_certificate_path, limit_bytes));
  });
}

}  // namespace

Json run_doctor(Core& core, CallContext& call, const Json& params) {
  report(call.progress_function(), "doctor", "looking at this host");
  std::optional<Image> image;
  try {
    image = find_image(core.image_request(""));
  } catch (const Error&) {
  }
  std::vector<Check> checks = check_programs(image.has_value());
  const auto add = [&](std::vector<Check> more) { std::move(more.begin(), more.end(), std::back_inserter(checks)); };
  add({libvirt_check(core), virtiofsd_check()});
  add(check_namespaces());
  const auto scope = find_user_scope(Deadline::after(check_limit));
  const auto accelerator = accelerator_check(core, image);
  add({image_check(image), accelerator,
       check_nested(find_nested_facts(text_or_empty(accelerator.data, "accelerator") == "kvm")), memory_check(),
       limits_check(core, scope)});
  add(check_resources(core.paths()));
  constexpr std::size_t switch_bytes = 64;
  add({check_open_files(virtiofsd_open_files()),
       check_access_control(read_file_if_exists("/sys/module/apparmor/parameters/enabled", switch_bytes),
                            read_file_if_exists("/sys/fs/selinux/enforce", switch_bytes)),
       check_logout(find_logout_facts(scope.why_not.empty())), check_clock(clock_is_synchronised())});
  const bool fix = value_or<bool>(params, "fix", false);
  add({records_check(core), guarded("leftovers", CheckStatus::warn, [&] { return check_leftovers(core, fix); }),
       network_check(core), dev_server_check(core),
       check_names(read_file_if_exists("/etc/nsswitch.conf", 64u << 10).value_or(""))});
  if (const auto file = core.front().certificate(); !file.empty()) add({certificate_check(file)});
  const bool sound =
      std::none_of(checks.begin(), checks.end(), [](const Check& check) { return check.status == CheckStatus::fail; });
  if (value_or<bool>(params, "nested", false) && sound)
    checks.push_back(try_nested(core, call, value_or<std::map<std::string, std::string>>(params, "env", {})));
  else if (value_or<bool>(params, "nested", false))
    checks.push_back(
        {"nested-l2", CheckStatus::warn, "not tried: what is named above keeps a guest from starting", ""});
  Json result{{"schema", "agentvm.doctor/1"}, {"ok", true}, {"version", AGENTVM_VERSION}, {"checks", Json::array()}};
  for (const auto& check : checks) {
    if (check.status == CheckStatus::fail) result["ok"] = false;
    result["checks"].push_back(to_json(check));
  }
  return result;
}

}  // namespace agentvm::manager
