#include "proxy/route/same_port.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "vmm/base/log.hpp"

namespace agentvm::proxy {
namespace {

constexpr std::size_t told_limit = 256;

bool runs(const SandboxRoute& route) {
  return route.state == SandboxRoute::State::running;
}

}  // namespace

void SamePorts::follow(Routes& routes) {
  close_unused(routes);
  for (auto& [name, route] : routes) {
    const auto is_open = [&](const Port& port) { return open_.contains(port.number); };
    auto of_sandbox = static_cast<std::size_t>(std::count_if(route.ports.begin(), route.ports.end(), is_open));
    for (auto& port : route.ports) {
      port.same_port = false;
      port.same_port_problem.clear();
      if (!runs(route)) continue;
      const bool was_open = is_open(port);
      if (!was_open) port.same_port_problem = try_open(name, port.number, of_sandbox);
      port.same_port = port.same_port_problem.empty();
      if (port.same_port && !was_open) ++of_sandbox;
    }
  }
}

void SamePorts::close_unused(const Routes& routes) {
  std::set<std::uint16_t> used;
  for (const auto& [name, route] : routes)
    if (runs(route))
      for (const auto& port : route.ports)
        if (open_.contains(port.number)) used.insert(port.number);
  for (const auto number : open_)
    if (!used.contains(number)) host_.close(number);
  open_ = std::move(used);
}

std::string SamePorts::try_open(const std::string& sandbox, std::uint16_t number, std::size_t of_sandbox) {
  std::string problem;
  if (number == own_)
    problem = "it is the proxy's own port";
  else if (number < least_same_port)
    problem = fmt::format("it is below {}", least_same_port);
  else if (of_sandbox >= same_port_sandbox_limit)
    problem = fmt::format("{} ports of this sandbox have that already", same_port_sandbox_limit);
  else if (open_.size() >= same_port_limit)
    problem = fmt::format("{} ports of all sandboxes have that already", same_port_limit);
  else
    problem = host_.open(number);
  if (problem.empty()) {
    open_.insert(number);
    told_.erase(number);
  } else {
    tell_once(sandbox, number, problem);
  }
  return problem;
}

/// A guest can let ports come and go as fast as it likes, and the log is the user's.
void SamePorts::tell_once(const std::string& sandbox, std::uint16_t number, const std::string& problem) {
  if (told_.size() < told_limit && told_.insert(number).second)
    log::info("proxy", "port {} of {} is not at its own number on this host, too: {}", number, sandbox, problem);
}

}  // namespace agentvm::proxy
