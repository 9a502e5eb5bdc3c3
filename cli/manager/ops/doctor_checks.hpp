#pragma once
// What this host has and lacks: each check has a verdict, the finding, and the command that mends it.

#include <string>
#include <vector>

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

/// Whether programs resolve the names of dev servers, from the text of /etc/nsswitch.conf. Browsers and curl do it by
/// themselves.
Check check_names(const std::string& nsswitch);

}  // namespace agentvm::manager
