#include <algorithm>

#include "vmm/base/nearest.hpp"
#include "vmm/config.hpp"

namespace agentvm {
namespace {

using enum KeyType;
using enum KeyClass;

// A key appears here when it works. The reference, the schema and the options of `start` follow by themselves.
constexpr ConfigKey keys[] = {
    {"name", name, "", "--name", "", harmless, "", "Sandbox name; unset: derived from the project's folder"},
    {"memory", size, "8G", "--memory", "AGENTVM_MEMORY", harmless, "256M|16T",
     "Guest memory; cut to what the host can give"},
    {"vcpus", count, "4", "--vcpus", "AGENTVM_VCPUS", harmless, "1|256",
     "Virtual CPUs; cut to the host's; an emulated machine has one unless this is set"},
    {"nested", boolean, "true", "--nested", "", harmless, "", "Let the guest run virtual machines of its own"},
    {"warm", boolean, "false", "--warm", "", harmless, "",
     "Let a new sandbox go on from a machine that is up already, a template, and make such templates in the "
     "background"},
    {"workspace.mode", choice, "virtiofs", "--workspace", "", harmless, "virtiofs|disk",
     "How /workspace gets into the guest: a shared folder or the guest's disk"},
    {"network", choice, "filtered", "--network", "AGENTVM_NETWORK", widening, "filtered|nat|none",
     "What the guest reaches: allowed names through the host, everything, or nothing"},
    {"image", image, "default", "--image", "", widening, "",
     "Name of an image, or the path of a recipe (has a '/' or ends in .yaml)"},
    {"layers", KeyType::choices, "", "--layers", "", harmless, "containers|hypervisor",
     "What an image built from a recipe gets besides: podman with Docker's socket, QEMU and libvirt"},
    {"branch", branch, "", "--branch", "", harmless, "",
     "Branch checked out in the guest; unset: the project's current one"},
    {"agent", name, "none", "--agent", "", widening, "",
     "Agent program that the sandbox's terminal session starts ('agentvm agents list'); none: a shell"},
    {"env.pass", variables, "", "", "", widening, "",
     "Variables of yours that the agent program gets: a key of its API; NAME* is every one that begins so", true},
    {"env.set", assignments, "", "", "", harmless, "",
     "NAME=VALUE of variables that the agent program gets; of two places that set one the stronger counts", true},
    {"env.deny", variables, "", "", "", harmless, "",
     "Variables that the agent program does not get, whatever else says so; NAME* as with env.pass", true},
    {"env.files", globs, "", "", "", widening, "",
     "Files of NAME=VALUE lines in the project's folder here, such as .env, for the agent program", true},
    {"env.commands", assignments, "", "", "", host_executing, "",
     "NAME=COMMAND: the variable is what your own command prints, run by sh on this host at each start", true},
    {"credentials.copy", boolean, "false", "", "", widening, "",
     "Lend the agent program its login from your home: in the guest's memory, until the sandbox stops"},
    {"accelerator", choice, "auto", "--accel", "AGENTVM_ACCEL", harmless, "auto|kvm|tcg",
     "auto takes KVM only if a trial proves that it works; tcg is emulation"},
    {"libvirt.uri", choice, "auto", "", "AGENTVM_LIBVIRT_URI", host_executing, "auto|qemu:///session|qemu:///system",
     "Who runs the machines; auto is the driver embedded in the manager"},
    {"persist", boolean, "true", "", "", harmless, "",
     "Keep the sandbox when it stops or its guest powers off; false destroys it then, after its work is rescued"},
    {"autostart", boolean, "false", "", "", harmless, "",
     "Start or resume the sandbox when exec, attach, ssh or open-vscode find that it does not run"},
    {"sync.mode", choice, "manual", "--sync-mode", "AGENTVM_SYNC_MODE", widening, "manual|auto-commit|auto-idle",
     "When commits come to the host: on 'agentvm sync' only, with each commit, or when the guest's branches are quiet"},
    {"sync.idle_seconds", count, "60", "", "", widening, "1|86400",
     "auto-idle: how long the guest's branches are quiet before what changed is fetched"},
    {"sync.gate.allow", globs, "", "", "", widening, "",
     "Paths (as in .gitignore) that may change without being asked for; never agentvm's and agents' own files"},
    {"sync.gate.deny", globs, "", "", "", widening, "", "Paths (as in .gitignore) that are always asked for"},
    {"sync.limits.bytes", size, "8G", "", "", widening, "1M|1T",
     "What one sync may receive; one object may unpack to twice, all of them to eight times as much"},
    {"sync.limits.objects", count, "10000000", "", "", widening, "1|1000000000", "Objects that one sync may receive"},
    {"sync.limits.refs", count, "50000", "", "", widening, "1|10000000", "References that a sandbox may have"},
    {"sync.limits.memory", size, "1G", "", "", widening, "64M|1T",
     "Memory of the process that reads what a guest sends; large files that come as deltas take up to four times as "
     "much disk space"},
    {"sync.limits.seconds", count, "600", "", "", widening, "1|86400",
     "How long one sync may take to receive and check"},
    {"wip.interval_seconds", count, "300", "", "", widening, "0|86400",
     "How often uncommitted work of a running sandbox is kept on the host as refs/agentvm/NAME/wip/...; 0: only at "
     "stop"},
    {"artifacts.paths", globs,
     "dist, build, out, target/release, coverage, htmlcov, test-results, playwright-report, packages/*/dist", "", "",
     widening, "", "What 'agentvm sync --artifacts' brings: paths from the workspace's root, with *, ? and **"},
    {"artifacts.limits.bytes", size, "8G", "", "", widening, "1M|16T", "What one such run may bring, holes included"},
    {"artifacts.limits.files", count, "200000", "", "", widening, "1|10000000", "Files that one such run may find"},
    {"egress.presets", KeyType::choices, "model-apis,package-registries,forges", "", "", widening,
     "model-apis|package-registries|forges",
     "Ready lists of hosts the guest may reach; 'agentvm plan' shows what is in them"},
    {"egress.allow", hosts, "", "", "", widening, "",
     "Hosts the guest may reach besides; without a port 80 and 443, *.example.org is every name below it", true},
    {"egress.deny", hosts, "", "", "", harmless, "",
     "Hosts the guest may not reach, whatever else allows them; without a port all of them", true},
    {"egress.grants", grants, "", "", "", host_executing, "",
     "Hosts the guest may reach even at private addresses and this host's own, each with its port", true},
    {"egress.ask", boolean, "false", "", "", widening, "",
     "Let connections to names that no rule is about wait until you decide, 25 seconds at most, instead of refusing"},
    {"egress.upstream", proxy, "direct", "", "", host_executing, "",
     "The proxy this host stands behind: direct, environment (https_proxy, no_proxy; also with a password) or its URL"},
    {"egress.secrets", KeyType::secrets, "", "", "", host_executing, "",
     "Secrets that stay on this host: NAME: {hosts, from: env:VARIABLE, file:PATH or command:WORDS, header, env, "
     "shape, requests, projects}, or NAME: env:VARIABLE where its hosts are known; the guest gets a placeholder, which "
     "the proxy replaces on the way to these hosts"},
    {"egress.caps", KeyType::caps, "", "", "", harmless, "",
     "How much the guest may take of a host: HOST NUMBER requests, bytes or tokens per minute, hour or day, as in "
     "api.example.org 100 requests/hour; then it is refused with 429",
     true},
    {"decoys", KeyType::choices, "", "", "", widening, "aws|github|npm|slack|stripe",
     "Credentials in the guest that nobody should use: one that is sent anywhere freezes the sandbox"},
    {"limits.disk_reserve", size, "2G", "", "", host_executing, "64M|16T",
     "Room kept free where the sandboxes are: the greediest guest is paused before less is left; unset: 2G, and no "
     "more "
     "than a twentieth of that file system"},
    {"limits.nested_memory", size, "", "", "", harmless, "64M|16T",
     "What virtual machines within the guest get together: one that takes more is ended; unset: half of memory"},
    {"limits.nested_vcpus", count, "", "", "", harmless, "1|256",
     "CPUs of the guest that virtual machines within it get together; unset: half of them"},
    {"proxy.enable", boolean, "true", "", "", host_executing, "",
     "Serve dev servers by name on the host's loopback; the manager reads it from your own file when it starts"},
    {"proxy.port", count, "8080", "", "", host_executing, "0|65535",
     "Port of http://NAME.localhost:PORT/; 0 takes any that is free; read like proxy.enable"},
    {"proxy.same_port", boolean, "false", "", "", host_executing, "",
     "Listen on the numbers of the guests' ports on the loopback, too: http://NAME.localhost:3000/; read like "
     "proxy.enable"},
    {"proxy.tls", boolean, "false", "", "", host_executing, "",
     "Serve dev servers by https, with certificates of an authority of this host's own; 'agentvm doctor' says how to "
     "trust it; read like proxy.enable"},
    {"git_identity", boolean, "true", "", "", harmless, "",
     "Use your git user.name and user.email for commits made in the guest"},
    {"notify", text, "", "", "", host_executing, "",
     "Your own command, run by sh on this host when an agent or a connection waits for you, or an agent has ended; "
     "AGENTVM_MESSAGE says so"},
    {"log.levels", levels, "", "", "AGENTVM_LOG", harmless, "",
     "Log levels per area, as in sync:debug,*:info; unset: warnings, and info in the manager's log"},
};

}  // namespace

std::span<const ConfigKey> config_keys() {
  return keys;
}

const ConfigKey* find_config_key(std::string_view wanted) {
  const auto found =
      std::find_if(std::begin(keys), std::end(keys), [&](const ConfigKey& key) { return key.name == wanted; });
  return found == std::end(keys) ? nullptr : &*found;
}

const ConfigKey* nearest_config_key(std::string_view wanted) {
  constexpr std::size_t longest_worth_comparing = 64;  // the text is foreign: the work stays bounded
  if (wanted.size() > longest_worth_comparing) return nullptr;
  const ConfigKey* best = nullptr;
  std::size_t best_distance = std::max<std::size_t>(2, wanted.size() / 2) + 1;
  for (const auto& key : keys) {
    // The last part alone counts too: someone who writes `mode` means `workspace.mode`.
    const auto last = key.name.substr(key.name.rfind('.') + 1);
    const auto distance = std::min(edit_distance(wanted, key.name), edit_distance(wanted, last) + 1);
    if (distance < best_distance) {
      best = &key;
      best_distance = distance;
    }
  }
  return best;
}

std::string_view to_string(KeyType type) {
  switch (type) {
    case text:
      return "text";
    case name:
      return "name";
    case branch:
      return "branch";
    case image:
      return "image";
    case size:
      return "size";
    case count:
      return "count";
    case boolean:
      return "boolean";
    case choice:
      return "choice";
    case hosts:
      return "hosts";
    case grants:
      return "host:port";
    case proxy:
      return "proxy";
    case KeyType::choices:
      return "choices";
    case globs:
      return "paths";
    case variables:
      return "variables";
    case assignments:
      return "NAME=VALUE";
    case KeyType::caps:
      return "caps";
    case KeyType::secrets:
      return "secrets";
    case levels:
      return "levels";
  }
  return "text";
}

std::string_view to_string(KeyClass key_class) {
  switch (key_class) {
    case harmless:
      return "harmless";
    case widening:
      return "widening";
    case host_executing:
      return "host-executing";
  }
  return "host-executing";
}

std::string_view to_string(ConfigLayer layer) {
  switch (layer) {
    case ConfigLayer::flag:
      return "flag";
    case ConfigLayer::environment:
      return "environment";
    case ConfigLayer::project:
      return "project";
    case ConfigLayer::user:
      return "user";
    case ConfigLayer::default_value:
      return "default";
    case ConfigLayer::derived:
      return "derived";
  }
  return "default";
}

}  // namespace agentvm
