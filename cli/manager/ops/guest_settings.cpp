#include "cli/manager/ops/guest_settings.hpp"

#include <cstdlib>

#include <fmt/format.h>

#include "cli/manager/ops/host_packages.hpp"
#include "cli/manager/ops/host_trust.hpp"
#include "proxy/egress/guest_settings.hpp"
#include "proxy/egress/sources.hpp"
#include "vmm/base/digest.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/process.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds git_limit{10'000};
/// Where the guest keeps the host's additional authorities: one file for Node, and the folder that
/// update-ca-certificates reads.
constexpr const char* guest_bundle = "/etc/ssl/certs/ca-certificates.crt";
constexpr const char* guest_authorities_file = "/etc/ssl/agentvm-host-authorities.pem";

/// One `git config` value of the user's repository; their repository and their configuration are trusted. Empty when
/// unset.
std::string git_config(const fs::path& project, const std::string& key) {
  ProcessSpec spec{.argv = {"git", "-C", project.string(), "config", "--get", key}};
  try {
    auto text = run(std::move(spec), Deadline::after(git_limit)).out;
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
  } catch (const Error&) {
    return "";
  }
}

/// `value` for a git configuration file, quoted.
std::string quoted(const std::string& value) {
  std::string text = "\"";
  for (const char c : value) {
    if (c == '"' || c == '\\') text += '\\';
    if (c == '\n') {
      text += "\\n";
      continue;
    }
    text += c;
  }
  return text + "\"";
}

/// The guest's /etc/gitconfig: what the image ships with, whose it is, and the way out.
guest::GuestFile git_settings(const SandboxRecord& record, const std::vector<egress::GitSetting>& settings) {
  std::string text =
      "[safe]\n\tdirectory = /workspace\n\tdirectory = /workspace/*\n[core]\n\tpager = less "
      "-FRX\n[init]\n\tdefaultBranch = main\n";
  const auto identity = record.git_identity ? host_git_identity(record.project) : std::nullopt;
  text += fmt::format("[user]\n\tname = {}\n\temail = {}\n", quoted(identity ? identity->name : "agentvm agent"),
                      quoted(identity ? identity->email : fallback_git_email(record.name.str())));
  for (const auto& setting : settings) {
    const auto dot = setting.key.rfind('.');
    text += fmt::format("[{}]\n\t{} = {}\n", setting.key.substr(0, dot), setting.key.substr(dot + 1),
                        quoted(setting.value));
  }
  return {"/etc/gitconfig", 0644, 0, 0, text};
}

/// /etc/environment is PAM's, and sshd runs without PAM: it sets the same for every session itself. All on one line:
/// sshd takes the first SetEnv only. PATH is left to the shell.
guest::GuestFile session_environment(const std::vector<std::string>& environment) {
  std::string line = "SetEnv";
  for (const auto& entry : environment)
    if (!entry.starts_with("PATH=")) line += fmt::format(" \"{}\"", entry);
  return {"/etc/ssh/sshd_config.d/50-agentvm.conf", 0644, 0, 0, line + "\n"};
}

/// The host's, and the one that ends TLS for secrets.
std::vector<std::string> authorities_for(Core& core, const SandboxRecord& record) {
  auto all = host_authorities();
  if (auto own = core.secrets().authority(record); !own.empty()) all.push_back(std::move(own));
  return all;
}

std::string guest_authority(std::size_t index) {
  return fmt::format("agentvm-host-{}", index);
}

void add_authorities(const std::vector<std::string>& extra, guest::Identity& identity,
                     std::vector<std::string>& environment) {
  if (extra.empty()) return;
  std::string all;
  for (std::size_t i = 0; i < extra.size(); ++i) {
    all += extra[i];
    identity.files.push_back(
        {fmt::format("{}/{}.crt", guest_authorities_folder, guest_authority(i)), 0644, 0, 0, extra[i]});
  }
  identity.files.push_back({guest_authorities_file, 0644, 0, 0, all});
  environment.push_back(fmt::format("NODE_EXTRA_CA_CERTS={}", guest_authorities_file));
  // Python's libraries bring a list of their own, unless they are told; Rust's ask the first of these, too.
  for (const char* name : {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"})
    environment.push_back(fmt::format("{}={}", name, guest_bundle));
}

}  // namespace

std::vector<std::string> host_authorities() {
  std::vector<fs::path> sources{"/usr/local/share/ca-certificates"};
  for (const auto& file : egress::extra_authority_files(host_npm_config(), host_package_environment()))
    sources.emplace_back(file);
  return extra_authorities(sources, "/usr/share/ca-certificates");
}

std::optional<GitIdentity> host_git_identity(const fs::path& project) {
  GitIdentity identity{git_config(project, "user.name"), git_config(project, "user.email")};
  if (identity.name.empty() || identity.email.empty()) return std::nullopt;
  return identity;
}

std::string fallback_git_email(const std::string& sandbox) {
  return "agent@" + sandbox + ".localhost";
}

guest::Identity guest_identity(Core& core, const SandboxRecord& record, const Image&) {
  const auto folder = core.store().folder(record.name);
  guest::Identity identity;
  identity.hostname = record.name.str();
  identity.machine_id = record.id;
  std::erase(identity.machine_id, '-');
  identity.host_key_private = read_file(folder / sandbox_files::host_key, 16384);
  identity.host_key_public = read_file(folder / sandbox_files::host_key_public, 16384);
  identity.authorized_keys = read_file(folder / sandbox_files::client_key_public, 16384);
  identity.workspace =
      record.workspace == WorkspaceMode::virtiofs ? guest::WorkspaceKind::virtiofs : guest::WorkspaceKind::disk;
  identity.nested = record.nested;
  identity.nested_memory = record.nested_memory.bytes();
  identity.nested_cpus = record.nested_vcpus;
  guest::GuestNetwork network;
  if (record.network == NetworkMode::nat) {
    network.gateway = "10.0.2.2";
    network.resolv_conf = "nameserver 10.0.2.3\n";
  }
  identity.network = network;
  // pam_env reads the last assignment; PATH is the image's own.
  std::vector<std::string> environment;
  environment.emplace_back("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
  environment.emplace_back(fmt::format("AGENTVM_SANDBOX={}", record.name.str()));
  std::vector<egress::GitSetting> git;
  if (record.network == NetworkMode::filtered) {
    const auto settings = egress::guest_settings(host_npm_config(), host_pip_config());
    for (const auto& file : settings.files) identity.files.push_back({file.path, file.mode, 0, 0, file.content});
    environment.insert(environment.end(), settings.environment.begin(), settings.environment.end());
    git = settings.git;
  }
  add_authorities(authorities_for(core, record), identity, environment);
  for (auto& line : core.secrets().environment(record)) environment.push_back(std::move(line));
  identity.files.push_back(git_settings(record, git));
  identity.files.push_back({"/etc/environment", 0644, 0, 0, fmt::format("{}\n", fmt::join(environment, "\n"))});
  identity.files.push_back(session_environment(environment));
  return identity;
}

void trust_authorities(Core& core, const SandboxRecord& record, guest::Control& control, Deadline deadline) {
  const auto extra = authorities_for(core, record);
  const auto digest = sha256_hex(fmt::format("{}", fmt::join(extra, "")));
  const auto marker = core.store().folder(record.name) / "authorities.digest";
  if (read_file_if_exists(marker, 128).value_or(extra.empty() ? digest : "") == digest) return;
  // The bundle serves curl, git and apt, the links Python and others. As update-ca-certificates would make them, which
  // goes through all that the distribution brings: a minute's work for an emulated guest.
  std::string script = fmt::format(
      "set -e; cat {} >>{}; cd /etc/ssl/certs\n"
      "trust() {{ ln -sf \"{}/$1.crt\" \"$1.pem\"; n=0; while [ -e \"$2.$n\" ]; do "
      "[ \"$(readlink \"$2.$n\")\" != \"$1.pem\" ] || return 0; n=$((n+1)); done; ln -sf \"$1.pem\" \"$2.$n\"; }}\n",
      guest_authorities_file, guest_bundle, guest_authorities_folder);
  for (std::size_t i = 0; i < extra.size(); ++i)
    if (const auto hash = subject_hash(extra[i]); !hash.empty())
      script += fmt::format("trust {} {}\n", guest_authority(i), hash);
  const auto result = control.exec({.argv = {"sh", "-c", script}}, deadline);
  if (!result.ok())
    throw Error(ErrorCode::operation_failed, "the guest does not take the certificate authorities of the host: " +
                                                 clean_guest_text(result.err, Newlines::escape, 300));
  write_file_atomic(marker, digest);
}

std::vector<std::string> plant_decoys(Core& core, const SandboxRecord& record, guest::Control& control,
                                      Deadline deadline) {
  const auto files = core.secrets().decoys(record);
  if (files.empty()) return {};
  // An empty file is what a machine that was ended by force has left of one.
  guest::ControlExec spec{.argv = {}, .env = {}, .cwd = {}, .user = "agent", .input = {}};
  std::string script =
      "umask 077; set -e\n"
      "put() { mkdir -p \"$(dirname \"$1\")\"; [ -s \"$1\" ] || printf '%s\\n' \"$2\" >\"$1\"; "
      "[ \"$(cat \"$1\")\" = \"$2\" ] || echo \"$3\"; }\n";
  for (std::size_t i = 0; i < files.size(); ++i) {
    auto content = files[i].content;
    content.pop_back();  // the last line's end
    spec.env[fmt::format("DECOY_{}", i)] = std::move(content);
    script += fmt::format("put \"$HOME/{}\" \"$DECOY_{}\" {}\n", files[i].path, i, i);
  }
  spec.argv = {"sh", "-c", script};
  const auto result = control.exec(spec, deadline);
  if (!result.ok())
    throw Error(ErrorCode::operation_failed,
                "the guest does not take the decoys: " + clean_guest_text(result.err, Newlines::escape, 300));
  std::vector<std::string> others;
  for (std::size_t i = 0; i < files.size(); ++i)
    if (("\n" + result.out).find(fmt::format("\n{}\n", i)) != std::string::npos) others.push_back(files[i].path);
  return others;
}

}  // namespace agentvm::manager
