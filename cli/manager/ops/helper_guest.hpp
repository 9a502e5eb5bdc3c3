#pragma once
// Guests for a piece of the manager's own work: on an empty repository of their own, and nothing of them is kept.

#include <map>

#include "cli/manager/ops/call_relay.hpp"
#include "cli/manager/ops/core.hpp"

namespace agentvm::manager {

/// What a client hears while such a guest works for it: that, and no step of the machine.
class HelperRelay final : public CallRelay {
 public:
  /// `what` goes before each step. Its warnings are logged. `client` outlives this.
  HelperRelay(CallContext& client, std::string stage, std::string what);
  void progress(const ProgressEvent& event) override;
  void warning(std::string text) override;

 private:
  const std::string stage_, what_;
};

/// From its start to its end, which the destructor makes. Not thread-safe.
class HelperGuest {
 public:
  struct Spec {
    std::string name;                          ///< what the sandbox's name begins with
    fs::path folder;                           ///< where its repository is put, as `project_folder`
    std::map<std::string, std::string> flags;  ///< configuration, as for a start
    std::map<std::string, std::string> environment;
  };
  static constexpr const char* project_folder = "project";
  /// Throws what the start threw; then nothing of it is left.
  HelperGuest(Core& core, CallContext& call, const Spec& spec);
  ~HelperGuest();
  HelperGuest(const HelperGuest&) = delete;
  HelperGuest& operator=(const HelperGuest&) = delete;

  const SandboxName& name() const { return name_; }
  /// Throws when it is gone.
  std::shared_ptr<LiveSandbox> live() const;

  /// Removes the folders of `parent` whose name begins with `prefix`, left by helpers that were interrupted, but for
  /// those that a sandbox still names.
  static void sweep(Core& core, const fs::path& parent, const std::string& prefix);

 private:
  void end();
  Core& core_;
  const SandboxName name_;
};

}  // namespace agentvm::manager
