#pragma once
// Secrets as a request sees them: a guest has placeholders, and only on the way to a secret's own hosts, in the headers
// that it is meant for, the value takes the placeholder's place. Pure.

#include <string>
#include <string_view>
#include <vector>

#include "proxy/egress/policy.hpp"
#include "proxy/egress/request_rule.hpp"
#include "proxy/http/head.hpp"

namespace agentvm::egress {

inline constexpr std::uint16_t secret_port = https_port;  ///< of a host without one

/// What the proxy knows of a secret before it needs its value.
struct SecretUse {
  std::string name;                   ///< the user's word for it
  std::string placeholder;            ///< long and random: no text holds it by accident
  std::vector<HostRule> hosts;        ///< each with its port
  std::vector<std::string> headers;   ///< where the placeholder is replaced
  std::vector<RequestRule> requests;  ///< what it may be used for; empty: anything

  bool meant_for(const HostPort& target) const;
};

/// Those of `uses` that are meant for `target`: TLS to it is ended here.
std::vector<const SecretUse*> secrets_for(const std::vector<SecretUse>& uses, const HostPort& target);

/// Why `fields` and `request_target` of a request for `target` hold a placeholder that must not go there; empty when
/// they do not. `secure`: within TLS that is ended here. Basic credentials are looked into.
enum class Passage { plain, secure };
std::string stray_placeholder(const std::vector<SecretUse>& uses, const HostPort& target, Passage passage,
                              std::string_view request_target, const http::Fields& fields);

/// Whether a value is needed: `use` stands in one of its headers.
bool is_wanted(const SecretUse& use, const http::Fields& fields);
/// Why a request with one of `uses`, all meant for its host, goes beyond what that may be used for; empty: it does not.
std::string forbidden_use(const std::vector<const SecretUse*>& uses, const http::Request& request);
/// Puts `value` in the place of every placeholder of `use` in its headers, within Basic credentials too.
void put_in(const SecretUse& use, std::string_view value, http::Fields& fields);

}  // namespace agentvm::egress
