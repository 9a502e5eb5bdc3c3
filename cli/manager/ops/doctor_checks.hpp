#pragma once
// What this host has and lacks: each check has a verdict, the finding, and the command that mends it.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/files.hpp"
#include "vmm/base/json.hpp"
#include "vmm/base/paths.hpp"

namespace agentvm::manager {

enum class CheckStatus { pass, warn, fail };

struct Check {
  std::string id;  ///< kebab-case, stable
  CheckStatus status = CheckStatus::pass;
  std::string finding;
  std::string remedy;  ///< a command, or empty
  Json data = Json::object();
};

Json to_json(const Check& check);

/// Programs that `start` and `image build` call, with their versions.
/// Those that build an image fail where none is there yet.
std::vector<Check> check_programs(bool has_image);
/// User namespaces and subordinate ids, which the workspace share needs.
std::vector<Check> check_namespaces();
/// Free memory and disk, and whether socket paths below the state folder fit.
std::vector<Check> check_resources(const Paths& paths);

/// How many files of a workspace can be shared: `limit` as of `virtiofsd_open_files`.
Check check_open_files(std::uint64_t limit);

/// The host's access control, from the text of /sys/module/apparmor/parameters/enabled and of /sys/fs/selinux/enforce;
/// nothing where there is no such file. Guests run without its labels, so what it refuses them is worth knowing.
Check check_access_control(const std::optional<std::string>& apparmor, const std::optional<std::string>& selinux);

/// What becomes of a user's programs after the last logout.
struct LogoutFacts {
  bool logind = false;   ///< systemd-logind keeps this host's sessions
  bool lingers = false;  ///< the user's systemd stays (loginctl(1), enable-linger)
  bool scopes = false;   ///< sandboxes are scopes of the user's systemd, and end with it
  bool kills = false;    ///< KillUserProcesses of logind.conf(5)
};
LogoutFacts find_logout_facts(bool scopes);
Check check_logout(const LogoutFacts& facts);

/// What decides whether guests have a virtual /dev/kvm of their own.
struct NestedFacts {
  bool kvm = false;           ///< guests run with KVM; else they are emulated, with an SVM of their own
  std::string module;         ///< "kvm_intel", "kvm_amd"; empty: neither is loaded
  std::string parameter;      ///< of that module: "Y", "N", "1", "0"
  bool cpu_flag = false;      ///< vmx or svm in /proc/cpuinfo
  bool virtual_host = false;  ///< the flag hypervisor in /proc/cpuinfo: this host is a guest itself
  bool container = false;     ///< of a container engine's
  bool device = false;        ///< /dev/kvm is there
  bool device_opens = false;  ///< for reading and writing
  std::string user;           ///< who would need the rights
};
NestedFacts find_nested_facts(bool kvm);
Check check_nested(const NestedFacts& facts);
/// The command that switches it on in a module of KVM's; while no machine runs.
std::string nested_remedy(const std::string& module);

/// Whether this host's clock follows a server's (adjtimex(2), STA_UNSYNC): guests get theirs from it.
Check check_clock(bool synchronised);
bool clock_is_synchronised();

/// Whether programs resolve the names of dev servers, from the text of /etc/nsswitch.conf. Browsers and curl do it by
/// themselves.
Check check_names(const std::string& nsswitch);

/// Where Debian looks for certificates that this host's user trusts (update-ca-certificates(8)).
inline constexpr const char* trusted_certificate_path = "/usr/local/share/ca-certificates/agentvm.crt";
/// Whether programs of this host trust the certificates of dev servers: the text of `file` and of the one above.
/// Browsers have lists of their own, which are not looked into.
Check check_certificate(const fs::path& file, const std::optional<std::string>& certificate,
                        const std::optional<std::string>& trusted);

}  // namespace agentvm::manager
