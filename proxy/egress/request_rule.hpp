#pragma once
// Which requests a secret may be used for: methods and paths. Pure.

#include <string>
#include <string_view>
#include <vector>

#include "proxy/http/head.hpp"

namespace agentvm::egress {

/// "GET,HEAD /repos/me/*": a * in the path stands for any text, also with slashes; * as the method for all of them.
struct RequestRule {
  std::vector<std::string> methods;  ///< empty: all
  std::string path;                  ///< without a query, which does not count

  /// Of what the configuration has checked.
  static RequestRule parse(std::string_view text);
  bool matches(std::string_view method, std::string_view path) const;
  std::string str() const;
};

/// Why none of `rules` permits the request; empty when one does, or when there are none. A path that a server could
/// resolve to another one (dot segments, also in disguise) and a field that overrides the method are permitted by none.
std::string beyond_rules(const std::vector<RequestRule>& rules, const http::Request& request);

}  // namespace agentvm::egress
