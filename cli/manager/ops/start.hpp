#pragma once
// From a request to a running guest with the repository in it.

#include "cli/manager/ops/core.hpp"
#include "cli/manager/ops/requests.hpp"
#include "cli/manager/service.hpp"
#include "vmm/plan.hpp"

namespace agentvm::manager {

/// The plan of a client's request against the store's names and this host. Runs nothing.
Plan plan_request(Core& core, const ClientSetting& setting);

enum class Lifetime {
  until_destroyed,
  one_command,  ///< see `SandboxRecord::throw_away`
};

struct StartOptions {
  bool fresh = false;  ///< drop the old guest state first; its work is rescued before
  Lifetime lifetime = Lifetime::until_destroyed;
  std::vector<std::string> task = {};                 ///< the first words of the agent's session
  std::map<std::string, std::string> variables = {};  ///< of the client; env.pass says which count
  bool session = true;                                ///< start the agent in the terminal session
};

/// Starts the sandbox of the plan (creating it when there is none) and answers the status object plus
/// {"already_running": bool, "timing":
/// [{"phase", "milliseconds"}]}. On an error everything begun is undone in reverse and the record stays
/// as `failed` with the reason; the next start takes up what is there.
Json start_sandbox(Core& core, CallContext& call, const ClientSetting& setting, const StartOptions& options = {});

}  // namespace agentvm::manager
