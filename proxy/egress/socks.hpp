#pragma once
// SOCKS 5 (RFC 1928) as far as it is spoken here: no authentication, CONNECT, names. Pure.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "proxy/egress/policy.hpp"

namespace agentvm::egress {

inline constexpr char socks_version = 5;

/// REP of an answer.
enum class SocksReply : std::uint8_t {
  succeeded = 0,
  failed = 1,
  not_allowed = 2,
  host_unreachable = 4,
  refused = 5,
  no_such_command = 7,
  no_such_address = 8,
};

struct SocksFault {
  SocksReply reply;
  std::string reason;  ///< one line, safe to show
};

/// The methods that a client offers.
struct SocksGreeting {
  bool no_authentication = false;
  std::size_t size = 0;             ///< bytes of the greeting; 0: incomplete
  std::optional<SocksFault> fault;  ///< not SOCKS 5 at all
};
/// `data` begins with the greeting. Never throws.
SocksGreeting parse_socks_greeting(std::string_view data);
/// The answer: "no authentication", or that nothing fits.
std::string socks_method(bool accepted);

struct SocksRequest {
  std::optional<HostPort> target;  ///< host as the client wrote it in lower case, without a final dot
  std::optional<SocksFault> fault;
  std::size_t size = 0;  ///< bytes of the request, with `target`
  bool incomplete() const { return !target && !fault; }
};
/// `data` begins with the request. A fault as soon as it is certain. Addresses are refused: a name is what the rules
/// decide on. Never throws.
SocksRequest parse_socks_request(std::string_view data);
std::string socks_answer(SocksReply reply);

}  // namespace agentvm::egress
