#pragma once
// The way out of a sandbox: an HTTP and SOCKS proxy for connections that arrive as descriptors. See README.md.

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "proxy/egress/policy.hpp"
#include "proxy/egress/questions.hpp"
#include "proxy/egress/resolver.hpp"
#include "proxy/egress/upstream_proxy.hpp"
#include "vmm/base/clock.hpp"
#include "vmm/base/fd.hpp"

namespace agentvm::egress {

struct SecretSet;  ///< secrets.hpp
class CapLedger;   ///< caps.hpp

/// What became of one request of a guest.
struct Decision {
  enum class Kind {
    allowed,
    denied,
    failed,
    malformed,
    asked,  ///< its user is asked; what comes of that is a decision of its own
  };
  enum class Protocol { http, connect, socks5 };
  std::int64_t time = 0;  ///< seconds since 1970 when it was decided
  std::string sandbox, host;
  std::uint16_t port = 0;
  Protocol protocol = Protocol::http;
  Kind kind = Kind::malformed;
  Cause cause = Cause::not_listed;  ///< with `denied`
  std::string rule;                 ///< the rule that decided; empty when none did
  std::string reason;               ///< why it did not happen; also why an allowed connection ended early
  std::uint64_t bytes_up = 0, bytes_down = 0;
  std::uint64_t requests = 0;  ///< as far as they are seen: a tunnel that cannot be looked into is one
  std::uint64_t tokens = 0;    ///< of a model's API, where a cap counts them
  bool announced = false;      ///< `Options::on_open` was called for it
};
std::string_view to_string(Decision::Kind kind);
std::string_view to_string(Decision::Protocol protocol);

struct Limits {
  std::size_t connections_per_sandbox = 256;
  milliseconds head{10'000};     ///< from the accepted connection to the end of the request's head, and for a tunnel's
                                 ///< first message from its first byte
  milliseconds resolve{10'000};  ///< for the name
  milliseconds connect{15'000};  ///< for all addresses together
  milliseconds idle{300'000};    ///< without a byte in either direction
  Questions::Limits questions;   ///< of each sandbox whose policy asks
};

struct Options {
  Resolve resolve = resolve_on_host;
  std::function<std::vector<IpAddress>()> own = own_addresses;
  /// When the first byte of an allowed connection may pass, for those who watch. On the proxy's thread; must not block.
  std::function<void(const Decision&)> on_open;
  /// When a question is asked that was not open. On the proxy's thread; must not block.
  std::function<void(const Decision&, Notice)> on_ask;
  /// When a decoy was sent: the sandbox is frozen already. Once until it is thawed. On the proxy's thread; must not
  /// block.
  std::function<void(const Decision&)> on_decoy;
  /// Once per connection: at once when it is refused, at its end when it was allowed. On the proxy's thread; must not
  /// block.
  std::function<void(const Decision&)> on_decision;
  Limits limits;
};

/// Thread-safe. Everything happens on one thread of its own.
class Egress {
 public:
  explicit Egress(Options options = {});
  ~Egress();  ///< `stop` with two seconds

  /// Replaces the policy of `sandbox`, for what comes and for what runs: connections that it no longer allows end, and
  /// those that wait for their user go on as it says.
  void set_policy(const std::string& sandbox, EgressPolicy policy);
  /// The proxy that the host stands behind, for what comes from now on; nothing: connections are made directly.
  void set_upstream(std::optional<UpstreamProxy> proxy);
  /// The secrets and decoys of `sandbox`, for connections that come from now on; nothing: it has none.
  void set_secrets(const std::string& sandbox, std::shared_ptr<const SecretSet> secrets);
  /// What `sandbox` may take, for connections that come from now on; nothing: as much as it likes.
  void set_caps(const std::string& sandbox, std::shared_ptr<CapLedger> caps);
  std::shared_ptr<CapLedger> caps(const std::string& sandbox) const;
  /// What connections of `sandbox` wait for its user to decide now, the oldest first; `Limits::questions` bounds it.
  std::vector<Question> questions(const std::string& sandbox) const;
  /// From now on nothing passes, whatever the policy says, and what is open ends. Again is fine.
  void freeze(const std::string& sandbox);
  /// Undoes it, for connections that come from now on.
  void thaw(const std::string& sandbox);
  /// No policy any more; its connections end, and it is frozen no longer.
  void forget(const std::string& sandbox);
  /// Answers on `connection` (a connected stream socket). A sandbox without a policy may reach nothing.
  void serve(UniqueFd connection, const std::string& sandbox);
  std::size_t connection_count() const;
  /// Ends every connection and the thread. Nothing is served afterwards.
  void stop(Deadline deadline);

  class Core;  ///< private to the library

 private:
  std::unique_ptr<Core> core_;
};

}  // namespace agentvm::egress
