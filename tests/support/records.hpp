#pragma once
// A sandbox record with every field set to something that is not its default.

#include "vmm/sandbox.hpp"

namespace agentvm::test {

inline SandboxRecord full_record(const std::string& name, const std::filesystem::path& project = "/src/demo") {
  SandboxRecord record{.id = new_uuid(), .name = SandboxName::parse(name), .project = project};
  record.created = 1'700'000'000;
  record.state = SandboxState::running;
  record.reason = "user";
  record.message = "started \"as asked\"\n";
  record.state_since = 1'700'000'100;
  record.branch = "feature/x";
  record.memory = ByteSize::gibibytes(3);
  record.vcpus = 3;
  record.nested = false;
  record.warm_wish = record.warm = true;
  record.warm_reason = "there is no template";
  record.saved = true;
  record.nested_memory = ByteSize::gibibytes(1);
  record.nested_vcpus = 2;
  record.workspace = WorkspaceMode::disk;
  record.network = NetworkMode::none;
  record.image = "/recipes/big.yaml";
  record.image_digest = "abc";
  record.accelerator_wish = AcceleratorWish::kvm;
  record.accelerator = "tcg";
  record.accelerator_reason = "no /dev/kvm";
  record.libvirt_uri = "qemu:///session";
  record.persist = false;
  record.autostart = true;
  record.sync_mode = "manual";
  record.egress_presets = {"forges"};
  record.egress_allow = {"example.org:443"};
  record.egress_deny = {"*.example.net"};
  record.egress_grants = {"registry.internal:5000"};
  record.egress_ask = true;
  record.egress_secrets = {{.name = "API_KEY",
                            .hosts = {"api.example.org", "*.example.net:8443"},
                            .from = "file:~/.secrets/api",
                            .headers = {"x-api-key"},
                            .variable = "EXAMPLE_KEY",
                            .shape = "sk-{}",
                            .projects = {"~/src"}}};
  record.egress_caps = {"api.example.org 100 requests/hour"};
  record.decoys = {"aws", "npm"};
  record.frozen = "the decoy aws was sent";
  record.egress_own_allow = {"asked.example"};
  record.egress_own_deny = {"tracker.example"};
  record.git_identity = false;
  record.ssh_port = 40022;
  record.domain = domain_name(record.id);
  record.virtiofsd = ProcessRecord{4711, 123456789012ULL};
  record.boot = BootRecord{1'700'000'050, "boot-id"};
  record.teardown = {"domain", "virtiofsd"};
  record.last_sync = SyncRecord{1'700'000'200, "updated", "main", "aaa", "bbb", "0f"};
  record.unsaved = true;
  record.worktrees = {{"feature/y", "/workspace/.worktrees/feature-y-0123abcd"}, {"", "/workspace/.worktrees/x"}};
  record.base_commits = {{"refs/heads/main", "aaa"}, {"refs/heads/feature/x", "bbb"}};
  record.warnings = {"memory cut"};
  return record;
}

}  // namespace agentvm::test
