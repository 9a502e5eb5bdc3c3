#pragma once
// What programs on a developer's host run, or obey, by a file's name. One group for each reason.

#include <string_view>
#include <vector>

namespace agentvm::sync {

struct GateRule {
  std::string_view glob;  ///< lower case, as for `path_matches`; without '/' it is a file's name, never a folder's
  std::string_view kind;
  bool always = false;  ///< no `sync.gate.allow` covers it
};

const std::vector<GateRule>& gate_rules();

}  // namespace agentvm::sync
