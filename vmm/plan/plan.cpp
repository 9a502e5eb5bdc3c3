#include "vmm/plan.hpp"

#include <algorithm>
#include <cstdlib>

#include <fmt/format.h>

#include "vmm/base/digest.hpp"
#include "vmm/base/text.hpp"

namespace agentvm {
namespace {

constexpr std::uint64_t headroom_bytes = 1ULL << 30;
constexpr auto smallest_guest = ByteSize::mebibytes(512);

template <class T>
Planned<T> planned(const Config& config, std::string_view key, T value) {
  return {std::move(value), config.at(key).origin};
}

SandboxName unique_name(const PlanRequest& request, const SandboxName& wanted) {
  if (!request.taken || !request.taken(wanted)) return wanted;
  const auto digest = sha256_hex(request.project.root.string());
  constexpr std::size_t suffix_digits = 4;
  constexpr int attempts = 15;  // 15 x 4 of the digest's 64 digits
  for (int i = 0; i < attempts; ++i) {
    const auto suffix =
        request.suffix ? request.suffix() : digest.substr(static_cast<std::size_t>(i) * suffix_digits, suffix_digits);
    if (const auto name = wanted.with_suffix(suffix); !request.taken(name)) return name;
  }
  throw Error(ErrorCode::operation_failed, fmt::format("no free name like '{}' was found", wanted.str()),
              "agentvm start --name NAME");
}

Planned<SandboxName> plan_name(const PlanRequest& request, const Config& config) {
  if (const auto& asked = config.at("name"); asked.value.is_string()) {
    auto name = SandboxName::parse(config.text("name"));
    if (request.taken && request.taken(name))
      throw Error(
          ErrorCode::usage,
          fmt::format("the name '{}' belongs to the sandbox of another project ({})", name.str(), asked.origin.str()),
          "agentvm list");
    return {std::move(name), asked.origin};
  }
  if (request.existing) return {*request.existing, {ConfigLayer::derived, "the project's sandbox", {}}};
  return {unique_name(request, SandboxName::derive(request.project.root.filename().string())),
          {ConfigLayer::derived, "the project's folder", {}}};
}

Planned<std::optional<std::string>> plan_branch(const PlanRequest& request, const Config& config) {
  if (const auto branch = config.text("branch"); !branch.empty()) return {branch, config.at("branch").origin};
  return {request.head_branch,
          {ConfigLayer::derived, request.head_branch ? "the checked-out branch" : "HEAD, which is detached", {}}};
}

Planned<ImageRef> plan_image(const PlanRequest& request, const Config& config) {
  const auto text = config.text("image");
  const auto& origin = config.at("image").origin;
  if (!image_is_recipe(text)) return {{text, {}}, origin};
  const bool in_file = origin.layer == ConfigLayer::user || origin.layer == ConfigLayer::project;
  const auto base = in_file ? std::filesystem::path(origin.source).parent_path() : request.cwd;
  return {{"", (base / text).lexically_normal()}, origin};
}

/// `folder` is `project`, or above it.
bool has_part(const std::filesystem::path& project, const std::string& folder) {
  const char* home = std::getenv("HOME");
  const bool of_home = folder.starts_with("~/");
  if (of_home && !home) return false;
  auto wanted =
      (of_home ? std::filesystem::path(home) / folder.substr(2) : std::filesystem::path(folder)).lexically_normal();
  if (!wanted.has_filename()) wanted = wanted.parent_path();
  const auto [rest, unused] = std::mismatch(wanted.begin(), wanted.end(), project.begin(), project.end());
  return rest == wanted.end();
}

Planned<std::vector<SecretRule>> plan_secrets(const PlanRequest& request, const Config& config) {
  auto rules = secret_rules(config.at("egress.secrets").value);
  std::erase_if(rules, [&](const SecretRule& rule) {
    return !rule.projects.empty() && std::none_of(rule.projects.begin(), rule.projects.end(), [&](const auto& folder) {
      return has_part(request.project.root, folder);
    });
  });
  return planned(config, "egress.secrets", std::move(rules));
}

std::vector<std::string> sorted_unique(std::vector<std::string> words) {
  std::sort(words.begin(), words.end());
  words.erase(std::unique(words.begin(), words.end()), words.end());
  return words;
}

void cut_memory(const PlanRequest& request, Plan& plan) {
  plan.memory_asked = plan.memory.value;
  const auto ceiling = memory_ceiling(request.host);
  if (plan.memory.value <= ceiling) return;
  if (ceiling < smallest_guest)
    throw Error(ErrorCode::host_lacks,
                fmt::format("not enough memory for a guest: {} of {} are available, and the host keeps 1G or a quarter "
                            "for itself; a guest needs {}",
                            request.host.memory_available.str(), request.host.memory_total.str(), smallest_guest.str()),
                "agentvm stop --all");
  plan.memory.value = ceiling;
  plan.warnings.push_back(
      fmt::format("memory cut from {} ({}) to {}: the host has {} of {} available and keeps 1G or a quarter for itself",
                  plan.memory_asked.str(), plan.memory.origin.str(), ceiling.str(), request.host.memory_available.str(),
                  request.host.memory_total.str()));
}

void cut_vcpus(const PlanRequest& request, Plan& plan) {
  plan.vcpus_asked = plan.vcpus.value;
  const auto most = std::max(1U, request.host.cpus);
  if (plan.vcpus.value <= most) return;
  plan.vcpus.value = most;
  if (plan.vcpus.origin.layer == ConfigLayer::default_value) return;  // nobody asked for more
  plan.warnings.push_back(fmt::format("vCPUs cut from {} ({}) to {}: that many CPUs may be used on this host",
                                      plan.vcpus_asked, plan.vcpus.origin.str(), most));
}

/// After the guest's own were cut: no more than these, and half of them where nothing is said.
void settle_nested_limits(const Config& config, Plan& plan) {
  const Origin half{ConfigLayer::derived, "half of the guest's", {}};
  plan.nested_memory = {ByteSize::mebibytes(plan.memory.value.bytes() / 2 >> 20), half};
  plan.nested_vcpus = {std::max(1U, plan.vcpus.value / 2), half};
  if (const auto& asked = config.at("limits.nested_memory"); !asked.value.is_null())
    plan.nested_memory = {std::min(config.size("limits.nested_memory"), plan.memory.value), asked.origin};
  if (const auto& asked = config.at("limits.nested_vcpus"); !asked.value.is_null())
    plan.nested_vcpus = {std::min(config.count("limits.nested_vcpus"), plan.vcpus.value), asked.origin};
}

template <class Enum, std::size_t N>
std::string_view name_in(const std::pair<std::string_view, Enum> (&rows)[N], Enum value) {
  for (const auto& [name, row] : rows)
    if (row == value) return name;
  return "";
}
template <class Enum, std::size_t N>
Enum value_in(const std::pair<std::string_view, Enum> (&rows)[N], std::string_view text, std::string_view what) {
  for (const auto& [name, row] : rows)
    if (name == text) return row;
  throw Error(ErrorCode::operation_failed, fmt::format("unknown {} '{}'", what, clean_guest_text(text)));
}
constexpr std::pair<std::string_view, WorkspaceMode> workspace_modes[] = {{"virtiofs", WorkspaceMode::virtiofs},
                                                                          {"disk", WorkspaceMode::disk}};
constexpr std::pair<std::string_view, AcceleratorWish> accelerator_wishes[] = {
    {"auto", AcceleratorWish::automatic}, {"kvm", AcceleratorWish::kvm}, {"tcg", AcceleratorWish::tcg}};
constexpr std::pair<std::string_view, NetworkMode> network_modes[] = {
    {"filtered", NetworkMode::filtered}, {"nat", NetworkMode::nat}, {"none", NetworkMode::none}};

}  // namespace

std::string_view to_string(WorkspaceMode mode) {
  return name_in(workspace_modes, mode);
}
std::string_view to_string(AcceleratorWish wish) {
  return name_in(accelerator_wishes, wish);
}
std::string_view to_string(NetworkMode mode) {
  return name_in(network_modes, mode);
}
std::string_view network_exposure(NetworkMode mode) {
  switch (mode) {
    case NetworkMode::filtered:
      return "allowed names, through a proxy on this host, and nothing else";
    case NetworkMode::nat:
      return "the internet, the local network, and this host's loopback as 10.0.2.2";
    case NetworkMode::none:
      return "nothing";
  }
  return "";
}
WorkspaceMode workspace_mode_from(std::string_view text) {
  return value_in(workspace_modes, text, "workspace mode");
}
AcceleratorWish accelerator_wish_from(std::string_view text) {
  return value_in(accelerator_wishes, text, "accelerator");
}
NetworkMode network_mode_from(std::string_view text) {
  return value_in(network_modes, text, "network mode");
}

ByteSize memory_ceiling(const HostFacts& host) {
  const auto left = host.memory_available.bytes() - std::min(host.memory_available.bytes(), headroom_bytes);
  const auto bytes = std::min(host.memory_total.bytes() / 4 * 3, left);
  return ByteSize::mebibytes(bytes >> 20);  // whole MiB: QEMU rounds otherwise, and people read it
}

Plan resolve_plan(const PlanRequest& request) {
  const auto read = request.read_config ? request.read_config : read_config_file;
  ConfigInput input{request.flags, request.environment, read(request.project.root / "agentvm.yaml"),
                    request.user_config.empty() ? std::nullopt : read(request.user_config), request.trust};
  const auto config = resolve_config(input);
  Plan plan{.name = plan_name(request, config),
            .project = request.project,
            .branch = plan_branch(request, config),
            .memory = planned(config, "memory", config.size("memory")),
            .vcpus = planned(config, "vcpus", config.count("vcpus")),
            .nested = planned(config, "nested", config.enabled("nested")),
            .warm = planned(config, "warm", config.enabled("warm")),
            .nested_memory = {},
            .nested_vcpus = {},
            .workspace = planned(config, "workspace.mode", workspace_mode_from(config.text("workspace.mode"))),
            .network = planned(config, "network", network_mode_from(config.text("network"))),
            .image = plan_image(request, config),
            .layers = planned(config, "layers", sorted_unique(config.list("layers"))),
            .env_pass = planned(config, "env.pass", config.list("env.pass")),
            .env_set = planned(config, "env.set", config.list("env.set")),
            .env_deny = planned(config, "env.deny", config.list("env.deny")),
            .env_files = planned(config, "env.files", config.list("env.files")),
            .env_commands = planned(config, "env.commands", config.list("env.commands")),
            .agent = planned(config, "agent", config.text("agent")),
            .credentials_copy = planned(config, "credentials.copy", config.enabled("credentials.copy")),
            .accelerator = planned(config, "accelerator", accelerator_wish_from(config.text("accelerator"))),
            .libvirt_uri = planned(config, "libvirt.uri", config.text("libvirt.uri")),
            .persist = planned(config, "persist", config.enabled("persist")),
            .autostart = planned(config, "autostart", config.enabled("autostart")),
            .sync_mode = planned(config, "sync.mode", config.text("sync.mode")),
            .sync_limits = {.bytes = planned(config, "sync.limits.bytes", config.size("sync.limits.bytes")),
                            .objects = planned(config, "sync.limits.objects", config.count("sync.limits.objects")),
                            .refs = planned(config, "sync.limits.refs", config.count("sync.limits.refs")),
                            .memory = planned(config, "sync.limits.memory", config.size("sync.limits.memory")),
                            .seconds = planned(config, "sync.limits.seconds", config.count("sync.limits.seconds"))},
            .egress_presets = planned(config, "egress.presets", config.list("egress.presets")),
            .egress_allow = planned(config, "egress.allow", config.list("egress.allow")),
            .egress_deny = planned(config, "egress.deny", config.list("egress.deny")),
            .egress_grants = planned(config, "egress.grants", config.list("egress.grants")),
            .egress_ask = planned(config, "egress.ask", config.enabled("egress.ask")),
            .egress_secrets = plan_secrets(request, config),
            .egress_caps = planned(config, "egress.caps", config.list("egress.caps")),
            .decoys = planned(config, "decoys", sorted_unique(config.list("decoys"))),
            .egress_upstream = planned(config, "egress.upstream", config.text("egress.upstream")),
            .git_identity = planned(config, "git_identity", config.enabled("git_identity")),
            .warnings = config.warnings()};
  if (plan.network.value == NetworkMode::nat)
    plan.warnings.push_back(
        fmt::format("network nat ({}): the guest reaches {}; nothing is refused and nothing is logged",
                    plan.network.origin.str(), network_exposure(NetworkMode::nat)));
  if (const auto& image = plan.image.value;
      !plan.layers.value.empty() && image.recipe.empty() && image.name != "default")
    plan.warnings.push_back(
        fmt::format("layers ({}) change nothing in image '{}', which is built already: they are for recipes",
                    plan.layers.origin.str(), image.name));
  cut_memory(request, plan);
  cut_vcpus(request, plan);
  settle_nested_limits(config, plan);
  return plan;
}

}  // namespace agentvm
