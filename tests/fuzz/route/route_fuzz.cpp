// libFuzzer entry for a Host or Origin that a browser sends: what is known must be exactly what we would write.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "proxy/route/routes.hpp"

namespace {

void demand(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace agentvm::proxy;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  static const Routes routes = [] {
    Routes all;
    all["box"] = {.state = SandboxRoute::State::running,
                  .ports = {{3000, "127.0.0.1", "", true}, {4000, "127.0.0.1", "", true, "", "feature"}},
                  .primary = 3000};
    return all;
  }();
  for (const Site& site : {Site{"localhost", 8080}, Site{"sandbox.local", 80}, Site{"localhost", 443, Scheme::https}}) {
    const auto name = site.parse(text);
    const auto port = std::to_string(site.port);
    const bool unsaid = site.port != 8080;  // that of the scheme
    const std::string host(text);
    if (name.kind == HostName::Kind::sandbox) {
      demand(name.worktree.empty() || is_worktree_label(name.worktree));
      const auto url = site.url(name.sandbox, name.port, name.worktree);
      const auto written = std::string(site.prefix()) + host;
      demand(url == written + "/" || (unsaid && written == url.substr(0, url.size() - 1) + ":" + port));
    }
    if (name.kind == HostName::Kind::index) demand(name.sandbox.empty() && name.port == 0 && name.worktree.empty());
    const auto decision = decide(routes, site, text);
    if (decision.kind == RouteDecision::Kind::forward) {
      demand(decision.sandbox == "box" && (decision.port == 3000 || decision.port == 4000));
      demand(name.worktree.empty() || (name.worktree == "feature" && decision.port == 4000));
    }
    const auto same_port = site.parse_same_port(text, 3000);
    if (same_port.kind != HostName::Kind::unknown)
      demand(std::string(site.prefix()) + host + "/" == site.same_port_url(same_port.sandbox, 3000) &&
             same_port.port == 3000);
    if (site.same_sandbox(text, "box"))
      demand(host.ends_with("box." + site.domain + (unsaid ? "" : ":8080")) || (unsaid && host.ends_with(":" + port)));
  }
  return 0;
}
