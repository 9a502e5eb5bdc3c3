#pragma once
// The first message of TLS, read strictly: whom does the client mean to speak to? Pure.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "proxy/egress/policy.hpp"

namespace agentvm::egress {

/// A ClientHello with the largest key shares in use is a tenth of it. On the wire, in records, it may be twice as long.
inline constexpr std::size_t client_hello_limit_bytes = 16 * 1024;

struct ClientHello {
  std::optional<std::string> name;  ///< of the extension server_name, in lower case
  /// Whether the extension encrypted_client_hello is there, real or as grease (the two cannot be told apart).
  bool encrypted = false;
};

struct ClientHelloResult {
  std::optional<ClientHello> hello;
  std::optional<std::string> fault;  ///< one line, safe to show
  std::size_t needed = 0;            ///< when incomplete: with fewer bytes than this in all it stays so
  bool incomplete() const { return !hello && !fault; }
};

/// Whether `data` begins as a TLS handshake record does; one byte is enough.
bool begins_tls(std::string_view data);
/// Parses the ClientHello at the start of `data`, over as many records as it takes. A fault as soon as it is certain;
/// never throws. What stands behind it is not looked at.
ClientHelloResult parse_client_hello(std::string_view data);

/// Why a ClientHello may not go to `target`; nothing when it may. Names must agree. Without a name a server answers for
/// whomever the encrypted request then names, so only an address may be asked like that. See docs/adr/0010.
std::optional<std::string> name_conflict(const ClientHello& hello, const HostPort& target);
/// The alert unrecognized_name: what a client gets instead of a connection that breaks off.
std::string tls_refusal();

}  // namespace agentvm::egress
