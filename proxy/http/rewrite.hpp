#pragma once
// What leaves: heads written from what was understood, never copied. Pure.

#include "proxy/http/head.hpp"

namespace agentvm::http {

/// What a server behind us is told about the client.
struct Forwarding {
  std::string client = "127.0.0.1";
  std::string_view scheme = "http";
};

/// The request for the server, with our own framing. Asks it to keep the connection.
std::string request_head(const Request& request);
/// The same, and whom it is from.
std::string request_head(const Request& request, const Forwarding& forwarding);

/// How the client gets a response's body: as it came, or chunked where only the end of the connection would tell.
Framing framing_for_client(const Response& response, int client_minor);

/// The response for the client. `framing` as `framing_for_client` said. A response that is a websocket's 101 keeps its
/// upgrade; `keep_alive` counts for others that are final.
std::string response_head(const Response& response, const Framing& framing, bool keep_alive);

/// RFC 9110's phrase; empty for an unknown status.
std::string_view reason_phrase(int status);

}  // namespace agentvm::http
