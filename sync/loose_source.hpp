#pragma once
// Where the guest's loose objects can be read without git running there: enough for a few new commits, and much sooner.
// What comes this way is judged as what git sends; anything that it cannot answer is asked of git.

#include <functional>
#include <map>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "vmm/base/clock.hpp"

namespace agentvm::sync {

struct LooseSource {
  struct References {
    std::string head;                         ///< "refs/heads/main"; empty where HEAD is on no branch
    std::map<std::string, std::string> tips;  ///< full name of a branch or tag -> object id
  };
  /// Nothing where only git can tell. Throws `Error`. Called on the thread of `sync_now`.
  std::function<std::optional<References>(Deadline)> references;
  /// Id -> the object's file, of as many of `ids` as there are and fit one answer, in their order. Throws `Error`.
  /// Called on a thread of its own, one call at a time; ends soon after a stop is requested.
  std::function<std::map<std::string, std::string>(const std::vector<std::string>& ids, std::stop_token, Deadline)>
      objects;
};

/// One request names at most so many.
inline constexpr std::size_t loose_request_limit = 256;

}  // namespace agentvm::sync
