#pragma once
// The table of sandboxes and their ports, and what it says about a request.

#include <functional>
#include <map>
#include <memory>
#include <mutex>

#include "proxy/route/ports.hpp"
#include "proxy/route/site.hpp"

namespace agentvm::proxy {

struct SandboxRoute {
  enum class State { running, starting, stopped } state = State::stopped;
  std::string state_text;           ///< as `agentvm list` has it: "failed", "saved"
  std::string message;              ///< why, when there is something to say
  std::string command;              ///< that mends it
  std::uint64_t machine = 0;        ///< another one after each start: no connection outlives its machine
  std::vector<Worktree> worktrees;  ///< /workspace first
  std::vector<Port> ports;          ///< by number
  std::uint16_t primary = 0;
  bool operator==(const SandboxRoute&) const = default;
};

using Routes = std::map<std::string, SandboxRoute, std::less<>>;
using RouteSnapshot = std::shared_ptr<const Routes>;

/// Thread-safe.
class RouteTable {
 public:
  RouteSnapshot snapshot() const;
  /// Publishes a changed copy; changes are seen by the next `snapshot`.
  void change(const std::function<void(Routes&)>& edit);

 private:
  mutable std::mutex mutex_;  // guards the pointer alone
  RouteSnapshot routes_ = std::make_shared<const Routes>();
  std::mutex editing_;  // one editor at a time; taken before mutex_
};

/// What is to become of a request.
struct RouteDecision {
  enum class Kind {
    forward,
    index,
    unknown,      ///< no name of ours, or of no sandbox: 421
    not_running,  ///< stopped, failed, starting: `route` says which
    no_server,    ///< runs, and nothing listens that the name could mean
  } kind = Kind::unknown;
  std::string sandbox;
  const SandboxRoute* route = nullptr;  ///< into the snapshot; with every kind but index and unknown
  std::uint16_t port = 0;               ///< forward: never 0
  std::string address;                  ///< forward: inside the guest
  std::string worktree = {};            ///< the label of the one that the name means; empty: none
};
/// `host` as `Site::parse` takes it. `same_port`: the request came in at a guest's own number on the host; 0: at the
/// site's port. The decision is valid as long as `routes` is.
RouteDecision decide(const Routes& routes, const Site& site, std::string_view host, std::uint16_t same_port = 0);

/// Whether a page of `origin` may open a websocket to the sandbox that was decided on: pages of that sandbox may, by
/// any name that leads to it. The number of a port that is another program's on this host is none.
bool may_connect(const RouteDecision& decision, const Site& site, std::string_view origin);

}  // namespace agentvm::proxy
