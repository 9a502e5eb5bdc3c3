#pragma once
// Whom this host believes to be a server: its own trust store, and the authorities that it trusts besides.

#include <memory>
#include <string>
#include <vector>

namespace agentvm::egress {

/// Immutable; thread-safe once it is made.
class UpstreamTls {
 public:
  /// `more`: PEM certificates. What does not parse is left out. Throws `operation_failed` when OpenSSL fails.
  explicit UpstreamTls(const std::vector<std::string>& more = {});
  ~UpstreamTls();

  struct Context;  ///< private to the library
  const Context& context() const { return *context_; }

 private:
  std::unique_ptr<Context> context_;
};

}  // namespace agentvm::egress
