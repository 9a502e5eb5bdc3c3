#include "proxy/route/routes.hpp"

#include <algorithm>

namespace agentvm::proxy {

RouteSnapshot RouteTable::snapshot() const {
  const std::lock_guard lock(mutex_);
  return routes_;
}

void RouteTable::change(const std::function<void(Routes&)>& edit) {
  const std::lock_guard editing(editing_);
  auto copy = std::make_shared<Routes>(*snapshot());
  edit(*copy);
  RouteSnapshot next = std::move(copy);
  const std::lock_guard lock(mutex_);
  routes_.swap(next);
}

RouteDecision decide(const Routes& routes, const Site& site, std::string_view host, std::uint16_t same_port) {
  using Kind = RouteDecision::Kind;
  const auto name = same_port == 0 ? site.parse(host) : site.parse_same_port(host, same_port);
  if (name.kind == HostName::Kind::index) return {.kind = Kind::index};
  const auto found = name.kind == HostName::Kind::sandbox ? routes.find(name.sandbox) : routes.end();
  if (found == routes.end()) return {};
  const SandboxRoute& route = found->second;
  RouteDecision decision{
      .kind = Kind::not_running, .sandbox = name.sandbox, .route = &route, .worktree = name.worktree};
  if (route.state != SandboxRoute::State::running) return decision;
  decision.port = name.port != 0          ? name.port
                  : name.worktree.empty() ? route.primary
                                          : worktree_port(route.ports, name.worktree);
  const auto listens = std::find_if(route.ports.begin(), route.ports.end(), [&](const Port& port) {
    return port.number == decision.port && (name.worktree.empty() || port.worktree == name.worktree);
  });
  decision.kind = listens == route.ports.end() ? Kind::no_server : Kind::forward;
  if (decision.kind == Kind::forward) decision.address = listens->address;
  return decision;
}

bool may_connect(const RouteDecision& decision, const Site& site, std::string_view origin) {
  if (site.same_sandbox(origin, decision.sandbox)) return true;
  if (!decision.route || !origin.starts_with(site.prefix())) return false;
  const auto host = origin.substr(site.prefix().size());
  return std::any_of(decision.route->ports.begin(), decision.route->ports.end(), [&](const Port& port) {
    return port.same_port && site.parse_same_port(host, port.number).sandbox == decision.sandbox;
  });
}

}  // namespace agentvm::proxy
