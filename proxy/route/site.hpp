#pragma once
// The names that the reverse proxy answers to, compared exactly. Pure.

#include <cstdint>
#include <string>
#include <string_view>

namespace agentvm::proxy {

/// What a Host field means.
struct HostName {
  enum class Kind { unknown, index, sandbox } kind = Kind::unknown;
  std::string sandbox;
  std::uint16_t port = 0;     ///< of the guest; 0: the primary one
  std::string worktree = {};  ///< its label, never of digits alone; empty: the whole sandbox is meant
  bool operator==(const HostName&) const = default;
};

enum class Scheme { http, https };

/// Where the proxy is reached.
struct Site {
  std::string domain = "localhost";
  std::uint16_t port = 0;
  Scheme scheme = Scheme::http;

  /// "http://" or "https://"
  std::string_view prefix() const { return scheme == Scheme::https ? "https://" : "http://"; }

  /// `host` in lower case, as `http::Request` has it. Only what `url` would write is known.
  HostName parse(std::string_view host) const;
  /// "http://3000.feature.box.localhost:8080/"; without a port of the guest: the primary one; without a label of a work
  /// tree: any of the sandbox's; without a sandbox: the index. `worktree` is one that `is_worktree_label` takes.
  std::string url(std::string_view sandbox = {}, std::uint16_t guest_port = 0, std::string_view worktree = {}) const;
  /// What `host` means where a guest's port has the same `number` on the host: `<sandbox>.<domain>:<number>`, nothing
  /// else.
  HostName parse_same_port(std::string_view host, std::uint16_t number) const;
  /// "http://box.localhost:3000/"
  std::string same_port_url(std::string_view sandbox, std::uint16_t number) const;
  /// Whether a page of `origin` may open a websocket to `sandbox`: pages of the same sandbox may, on any of its ports
  /// and work trees, by our scheme.
  bool same_sandbox(std::string_view origin, std::string_view sandbox) const;
};

/// Whether a work tree can be named so: a DNS label as `branch_label` makes them, and not of digits alone. Such a one
/// is a port wherever it stands, so that no branch takes a port's name away.
bool is_worktree_label(std::string_view text);

}  // namespace agentvm::proxy
