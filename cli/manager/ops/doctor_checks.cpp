#include "cli/manager/ops/doctor_checks.hpp"

#include <fmt/format.h>
#include <pwd.h>
#include <sys/timex.h>
#include <unistd.h>

#include "vmm/base/files.hpp"
#include "vmm/base/process.hpp"
#include "vmm/base/sizes.hpp"
#include "vmm/base/text.hpp"
#include "vmm/base/unix_socket.hpp"

namespace agentvm::manager {
namespace {

/// First line of `program --version`, cut; empty when it cannot be run.
std::string version_of(const std::string& program) {
  constexpr milliseconds limit{5'000};
  try {
    // OpenSSH knows -V alone, and says it on standard error.
    const auto result = run({.argv = {program, program == "ssh" ? "-V" : "--version"}}, Deadline::after(limit));
    const auto& text = result.out.empty() ? result.err : result.out;
    return clean_guest_text(text.substr(0, text.find('\n')), Newlines::escape, 120);
  } catch (const Error&) {
    return "";
  }
}

Check program_check(const std::string& id, const std::string& program, const std::string& package,
                    CheckStatus when_absent, const std::string& purpose) {
  const auto path = find_program(program);
  if (path.empty())
    return {id, when_absent, fmt::format("{} is not installed: {}", program, purpose),
            "sudo apt-get install " + package};
  return {id, CheckStatus::pass, version_of(program), "", Json{{"path", path}}};
}

/// The number in a /proc/sys file; `absent` when there is no such file (the kernel has no such switch).
long long sysctl(const std::string& path, long long absent) {
  const auto text = read_file_if_exists("/proc/sys/" + path, 64);
  return text ? std::atoll(text->c_str()) : absent;
}

bool has_subordinate_range(const std::string& file, const std::string& user, uid_t uid) {
  const auto text = read_file_if_exists(file);
  if (!text) return false;
  for (const auto& name : {user, std::to_string(uid)})
    if (text->starts_with(name + ":") || text->find("\n" + name + ":") != std::string::npos) return true;
  return false;
}

}  // namespace

Json to_json(const Check& check) {
  constexpr const char* names[] = {"pass", "warn", "fail"};
  return {{"id", check.id},
          {"status", names[static_cast<int>(check.status)]},
          {"finding", check.finding},
          {"remedy", check.remedy},
          {"data", check.data}};
}

std::vector<Check> check_programs(bool has_image) {
  const auto without = has_image ? CheckStatus::warn : CheckStatus::fail;  // the first start builds one
  return {
      program_check("qemu", "qemu-system-x86_64", "qemu-system-x86", CheckStatus::fail, "it runs the guests"),
      program_check("qemu-img", "qemu-img", "qemu-utils", CheckStatus::fail, "it makes the guests' disks"),
      program_check("git", "git", "git", CheckStatus::fail, "workspaces are made from your repository with it"),
      program_check("mmdebstrap", "mmdebstrap", "mmdebstrap", without, "`agentvm image build` needs it"),
      program_check("depmod", "depmod", "kmod", without, "`agentvm image build` needs it"),
      program_check("ssh", "ssh", "openssh-client", CheckStatus::warn, "`agentvm ssh` hands over to it"),
  };
}

std::vector<Check> check_namespaces() {
  constexpr const char* id = "user-namespaces";
  if (sysctl("user/max_user_namespaces", 1) == 0)
    return {{id, CheckStatus::fail,
             "user namespaces are off (user.max_user_namespaces = 0): the workspace cannot be shared safely",
             "sudo sysctl user.max_user_namespaces=15000, or agentvm start --workspace disk"}};
  const auto uid = ::geteuid();
  if (uid == 0) return {{id, CheckStatus::pass, "running as root: ids are mapped directly", ""}};
  if (sysctl("kernel/unprivileged_userns_clone", 1) == 0)
    return {{id, CheckStatus::fail, "unprivileged user namespaces are off (kernel.unprivileged_userns_clone = 0)",
             "sudo sysctl kernel.unprivileged_userns_clone=1, or agentvm start --workspace disk"}};
  if (sysctl("kernel/apparmor_restrict_unprivileged_userns", 0) == 1)
    return {{id, CheckStatus::warn, "AppArmor restricts unprivileged user namespaces here",
             "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0, or agentvm start --workspace disk"}};
  if (find_program("newuidmap").empty())
    return {{id, CheckStatus::fail, "newuidmap is not installed", "sudo apt-get install uidmap"}};
  const passwd* entry = ::getpwuid(uid);
  const std::string user = entry ? entry->pw_name : std::to_string(uid);
  if (!has_subordinate_range("/etc/subuid", user, uid) || !has_subordinate_range("/etc/subgid", user, uid))
    return {{id, CheckStatus::fail, fmt::format("{} has no subordinate ids in /etc/subuid and /etc/subgid", user),
             fmt::format("sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {}", user)}};
  return {{id, CheckStatus::pass, "unprivileged, with subordinate ids", ""}};
}

std::vector<Check> check_resources(const Paths& paths) {
  std::vector<Check> checks;
  constexpr auto wanted_disk = ByteSize::gibibytes(10), least_disk = ByteSize::gibibytes(3);
  fs::path existing = paths.state;
  while (!fs::exists(existing)) existing = existing.parent_path();
  const ByteSize disk(free_bytes(existing));
  checks.push_back({"disk-space",
                    disk < least_disk    ? CheckStatus::fail
                    : disk < wanted_disk ? CheckStatus::warn
                                         : CheckStatus::pass,
                    fmt::format("{} free below {}", disk.str(), existing.string()),
                    disk < wanted_disk ? "agentvm image prune" : "", Json{{"free_bytes", disk.bytes()}}});
  // The longest name that libvirt or QEMU binds below the state folder.
  const auto longest = paths.libvirt_root() / "lib/qemu/domain-9999-avm-00000000/monitor.sock";
  if (longest.string().size() >= unix_path_limit_bytes)
    checks.push_back({"socket-paths", CheckStatus::fail,
                      fmt::format("socket paths below {} would be {} bytes long; {} is the limit", paths.state.string(),
                                  longest.string().size(), unix_path_limit_bytes - 1),
                      "export AGENTVM_HOME=<a shorter folder>"});
  else
    checks.push_back(
        {"socket-paths", CheckStatus::pass, fmt::format("socket paths below {} fit", paths.state.string()), ""});
  return checks;
}

Check check_open_files(std::uint64_t limit) {
  // A source tree with its packages has tens of thousands of files; 65536 are room for most.
  constexpr std::uint64_t wanted = 65536;
  const Json data{{"limit", limit}};
  if (limit >= wanted)
    return {"open-files", CheckStatus::pass, fmt::format("a workspace may have {} files and folders", limit), "", data};
  return {
      "open-files", CheckStatus::warn,
      fmt::format("a workspace shared through virtiofs may have {} files and folders: more are not allowed to be "
                  "open at a time (hard limit nofile)",
                  limit),
      fmt::format("raise nofile to {} in /etc/security/limits.conf and log in anew, or agentvm start --workspace disk",
                  wanted),
      data};
}

Check check_access_control(const std::optional<std::string>& apparmor, const std::optional<std::string>& selinux) {
  constexpr const char* id = "access-control";
  const bool enforces = selinux && selinux->starts_with('1');
  const bool profiles = apparmor && apparmor->starts_with('Y');
  const Json data{{"apparmor", profiles}, {"selinux", enforces ? "enforcing" : selinux ? "permissive" : "absent"}};
  if (enforces)
    return {id, CheckStatus::warn,
            "SELinux is enforcing; guests run in your own domain, and what it refuses them is in the audit log",
            "sudo ausearch -m avc -ts recent", data};
  if (profiles) return {id, CheckStatus::pass, "AppArmor is on; guests run without a profile of it", "", data};
  return {id, CheckStatus::pass, "no access control of the kernel's is on", "", data};
}

LogoutFacts find_logout_facts(bool scopes) {
  LogoutFacts facts{.logind = fs::exists("/run/systemd/seats"), .scopes = scopes};
  const passwd* entry = ::getpwuid(::geteuid());
  if (entry) facts.lingers = fs::exists(fs::path("/var/lib/systemd/linger") / entry->pw_name);
  if (!facts.logind || find_program("loginctl").empty()) return facts;
  constexpr milliseconds limit{5'000};
  try {
    facts.kills = run({.argv = {"loginctl", "show", "--property=KillUserProcesses"}}, Deadline::after(limit))
                      .out.starts_with("KillUserProcesses=yes");
  } catch (const Error&) {  // a bus that does not answer: its default is no
  }
  return facts;
}

Check check_logout(const LogoutFacts& facts) {
  constexpr const char* id = "logout";
  const Json data{{"lingers", facts.lingers}, {"scopes", facts.scopes}};
  if (!facts.logind) return {id, CheckStatus::pass, "no login manager ends sandboxes", "", data};
  if (facts.lingers) return {id, CheckStatus::pass, "sandboxes go on after your last logout (linger)", "", data};
  if (!facts.scopes && !facts.kills) return {id, CheckStatus::pass, "sandboxes go on after your last logout", "", data};
  return {id, CheckStatus::warn,
          facts.scopes ? "sandboxes end with your last logout: your systemd ends then"
                       : "sandboxes end with your logout (KillUserProcesses in logind.conf)",
          "loginctl enable-linger", data};
}

NestedFacts find_nested_facts(bool kvm) {
  NestedFacts facts{.kvm = kvm};
  for (const char* module : {"kvm_intel", "kvm_amd"}) {
    const auto parameter = read_file_if_exists(fs::path("/sys/module") / module / "parameters/nested", 16);
    if (!parameter) continue;
    facts.module = module;
    facts.parameter = parameter->substr(0, parameter->find('\n'));
  }
  const auto cpus = read_file_if_exists("/proc/cpuinfo", 4u << 20).value_or("");
  const auto start = cpus.find("\nflags");
  const auto flags = start == cpus.npos ? "" : cpus.substr(start + 1, cpus.find('\n', start + 1) - start - 1) + " ";
  facts.cpu_flag = flags.find(" vmx ") != flags.npos || flags.find(" svm ") != flags.npos;
  facts.virtual_host = flags.find(" hypervisor ") != flags.npos;
  facts.container = fs::exists("/.dockerenv") || fs::exists("/run/.containerenv");
  facts.device = fs::exists("/dev/kvm");
  facts.device_opens = ::access("/dev/kvm", R_OK | W_OK) == 0;
  const passwd* entry = ::getpwuid(::geteuid());
  facts.user = entry ? entry->pw_name : std::to_string(::geteuid());
  return facts;
}

std::string nested_remedy(const std::string& module) {
  return fmt::format(
      "echo 'options {0} nested=1' | sudo tee /etc/modprobe.d/kvm-nested.conf && sudo modprobe -r {0} && sudo modprobe "
      "{0}",
      module);
}

Check check_nested(const NestedFacts& facts) {
  Check check{"nested", CheckStatus::pass, "", "",
              Json{{"module", facts.module},
                   {"parameter", facts.parameter},
                   {"cpu_flag", facts.cpu_flag},
                   {"virtual_host", facts.virtual_host},
                   {"container", facts.container}}};
  const bool on = facts.parameter == "Y" || facts.parameter == "1";
  if (facts.kvm && on) {
    check.finding = fmt::format("guests have a /dev/kvm of their own ({} nested={})", facts.module, facts.parameter);
    return check;
  }
  if (facts.kvm && !facts.module.empty()) {
    check.status = CheckStatus::warn;
    check.finding = fmt::format("guests have no /dev/kvm: {} was loaded with nested={}", facts.module, facts.parameter);
    check.remedy = nested_remedy(facts.module);
    return check;
  }
  check.finding = "guests are emulated and have an SVM of their own: machines run in them, slowly";
  if (facts.device && !facts.device_opens) {
    check.status = CheckStatus::warn;
    check.finding += "; you may not open /dev/kvm";
    check.remedy = fmt::format("sudo usermod -aG kvm {}, and log in anew", facts.user);
  } else if (!facts.device && facts.container) {
    check.finding += "; this container has no /dev/kvm";
    check.remedy = "start the container with --device /dev/kvm";
  } else if (!facts.device && !facts.cpu_flag && facts.virtual_host) {
    check.finding += "; this host is a virtual machine that may run none";
    check.remedy = "switch on nested virtualisation for this machine where it is defined";
  } else if (!facts.device && !facts.cpu_flag) {
    check.finding += "; the processor shows neither vmx nor svm";
    check.remedy = "switch on virtualisation (VT-x or SVM) in the firmware";
  } else if (!facts.device) {
    check.finding += "; the module kvm is not loaded";
    check.remedy = "sudo modprobe -a kvm_intel kvm_amd";
  }
  return check;
}

bool clock_is_synchronised() {
  timex state{};
  return ::adjtimex(&state) >= 0 && (state.status & STA_UNSYNC) == 0;
}

Check check_clock(bool synchronised) {
  constexpr const char* id = "clock";
  if (synchronised) return {id, CheckStatus::pass, "this host's clock follows a server", ""};
  return {id, CheckStatus::pass,
          "nothing that the kernel knows of sets this host's clock; guests follow it all the same", "timedatectl"};
}

Check check_names(const std::string& nsswitch) {
  constexpr const char* id = "dev-server-names";
  for (std::size_t start = 0; start < nsswitch.size();) {
    const auto end = std::min(nsswitch.find('\n', start), nsswitch.size());
    const auto line = nsswitch.substr(start, end - start);
    start = end + 1;
    if (!line.starts_with("hosts:")) continue;
    // systemd-resolved knows these names as well.
    if (line.find("myhostname") != line.npos || line.find("resolve") != line.npos)
      return {id, CheckStatus::pass, "programs resolve NAME.localhost", ""};
  }
  return {id, CheckStatus::warn, "browsers and curl resolve NAME.localhost by themselves, other programs do not",
          "sudo apt-get install libnss-myhostname"};
}

Check check_certificate(const fs::path& file, const std::optional<std::string>& certificate,
                        const std::optional<std::string>& trusted) {
  constexpr const char* id = "dev-server-certificate";
  const Json data{{"file", file.string()}};
  const auto browsers = fmt::format("browsers have their own lists of authorities: import {} there", file.string());
  if (certificate && trusted == certificate)
    return {id, CheckStatus::pass, "programs trust the authority for https to dev servers; " + browsers, "", data};
  return {id, CheckStatus::warn, "programs do not trust the authority for https to dev servers; " + browsers,
          fmt::format("sudo cp '{}' {} && sudo update-ca-certificates", file.string(), trusted_certificate_path), data};
}

}  // namespace agentvm::manager
