#pragma once
// Dev servers by name: the reverse proxy. See README.md.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "proxy/route/routes.hpp"
#include "proxy/tls/authority.hpp"
#include "vmm/base/clock.hpp"
#include "vmm/base/fd.hpp"

namespace agentvm::proxy {

struct Limits {
  std::size_t connections = 4096;  ///< of clients; less where the process may open few descriptors
  std::size_t upstreams_per_sandbox = 512;
  milliseconds head{15'000};        ///< from its first byte (or the accepted connection) to its end; also a handshake
  milliseconds keep_alive{75'000};  ///< between two requests
  milliseconds dial{15'000};
  milliseconds quiet{600'000};       ///< without a byte while a request is on its way
  milliseconds half_closed{60'000};  ///< the same when the client will send nothing more: mostly it has gone
  milliseconds tunnel{86'400'000};   ///< without a byte in a websocket
};

/// Whether the host listens on the numbers of the guests' ports, too.
enum class SamePort { off, on };

struct Options {
  Site site;             ///< port 0: one that is free; its scheme is set by `authority`
  unsigned workers = 0;  ///< 0: one per core, at most 8
  SamePort same_port = SamePort::off;
  /// Signs for the site's domain: every listener then speaks https. Null: plain http.
  std::shared_ptr<Authority> authority = {};
  Limits limits;
  /// What requests are judged by. Its owner may change it while the proxy runs.
  std::shared_ptr<RouteTable> routes = std::make_shared<RouteTable>();
  /// Opens a connection to `address`:`port` inside `sandbox`. Calls back once, from any thread, with it or with why
  /// there is none. Must neither block nor throw.
  using Dialled = std::function<void(UniqueFd connection, const std::string& problem)>;
  std::function<void(const std::string& sandbox, const std::string& address, std::uint16_t port, Deadline deadline,
                     Dialled callback)>
      dial;
  /// The names that connections of `sandbox` wait for its user to decide about, for the index page. Any thread; must
  /// neither block nor throw. Empty: none do.
  std::function<std::vector<std::string>(const std::string& sandbox)> waiting = {};
};

/// Thread-safe.
class ReverseProxy {
 public:
  /// Listens on 127.0.0.1 and, where there is one, ::1. Throws `host_lacks` when the port is taken or not allowed,
  /// `operation_failed` when OpenSSL refuses our settings.
  explicit ReverseProxy(Options options);
  ~ReverseProxy();  ///< `stop` with two seconds

  /// `Options::routes`. Requests on their way keep what they began with, unless their machine is gone.
  RouteTable& routes();
  /// With `SamePort::on`: listens on exactly those numbers of `routes` that `SamePorts` allows, and marks its ports. To
  /// be called by whoever changes the routes, within the change. Throws nothing; without the option it does nothing.
  void follow_ports(Routes& routes);
  /// With the port that was taken and the scheme that is spoken.
  const Site& site() const;
  std::size_t connection_count() const;
  /// Ends every connection and thread.
  void stop(Deadline deadline);

  class Core;  ///< private to the library

 private:
  std::unique_ptr<Core> core_;
};

}  // namespace agentvm::proxy
