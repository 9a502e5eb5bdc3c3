#pragma once
// Secrets of the user's that stay here (`egress.secrets`): what the proxy, the guest and the user are told of those of
// one sandbox, and of its decoys, which are found on the same way. The values of secrets are in this process's memory
// alone, and only once a request has asked for them.

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "proxy/egress/secrets.hpp"
#include "vmm/store.hpp"

namespace agentvm::manager {

/// Of all sandboxes. Thread-safe. Files of a sandbox: its placeholders (secrets.json, 0600), what its decoys are made
/// of (decoys.json, 0600) and its authority (egress-ca/, 0700).
class SecretKeeper {
 public:
  explicit SecretKeeper(const Store& store) : store_(store) {}

  /// Before a machine starts: what the client's variables say counts until the next start, the authority is renewed for
  /// the hosts of now when it is not for them, or half over, and every value is read anew. Throws `operation_failed`
  /// naming the file.
  void begin(const SandboxRecord& record, std::map<std::string, std::string> variables);
  /// For a machine that runs: a later client's variables count from now on. Whether there is anything new for the
  /// proxy.
  bool take(const SandboxRecord& record, const std::map<std::string, std::string>& variables);
  /// For the proxy; nothing for a sandbox without secrets and decoys, or without the filter. Never throws for an
  /// authority that cannot be read: then the set says so.
  std::shared_ptr<const egress::SecretSet> set_for(const SandboxRecord& record,
                                                   const std::vector<std::string>& authorities);
  /// Values are forgotten, at the end of a machine.
  void end(const SandboxName& name);
  /// The client's variables too, at the end of a sandbox.
  void forget(const SandboxName& name);

  /// For the guest's sessions: NAME=placeholder.
  std::vector<std::string> environment(const SandboxRecord& record);
  struct DecoyFile {
    std::string path;  ///< from the agent's home
    std::string content;
  };
  /// For the guest's home; made at the first call, and then the same for the sandbox's life.
  std::vector<DecoyFile> decoys(const SandboxRecord& record) const;
  /// For the guest's stores: the authority, in PEM; empty where no TLS is ended.
  std::string authority(const SandboxRecord& record) const;
  /// `[{name, hosts, env, source, state: not-asked|ok|failed, problem, last_use}]`
  Json status(const SandboxRecord& record) const;
  /// Whether the user is to be told now of a placeholder that went astray: a guest may send one after the other.
  bool may_tell(const std::string& sandbox);

 private:
  struct Kept {
    std::vector<SecretRule> rules;  // that `values` are of
    std::shared_ptr<egress::SecretValues> values;
    std::shared_ptr<const std::map<std::string, std::string>> variables;
    std::optional<SteadyTime> told;
  };
  std::map<std::string, std::string> placeholders(const SandboxRecord& record) const;
  std::vector<egress::Decoy> decoy_values(const SandboxRecord& record) const;
  std::map<std::string, std::string> random_parts(const SandboxRecord& record, const char* file,
                                                  const std::vector<std::string>& names, std::size_t bytes) const;

  const Store& store_;
  mutable std::mutex files_;  // one at a time makes placeholders
  mutable std::mutex mutex_;  // guards kept_
  std::map<std::string, Kept> kept_;
};

/// Whether the guest has placeholders: it has secrets, and the proxy between.
bool uses_secrets(const SandboxRecord& record);
/// Whether it has decoys, and the proxy between.
bool uses_decoys(const SandboxRecord& record);
/// `[{name, file, hosts}]` for people: what `kinds` are.
Json decoys_json(const std::vector<std::string>& kinds);
/// Variables that a plan's secrets are read from: the client sends what it has of them.
std::vector<std::string> secret_variables(const std::vector<SecretRule>& rules);
/// `[{name, hosts, env, header, source}]` for people, and in `warnings` what will not do: hosts that no rule allows.
Json secrets_plan(const std::vector<SecretRule>& rules, const egress::EgressPolicy& policy,
                  std::vector<std::string>& warnings);

}  // namespace agentvm::manager
