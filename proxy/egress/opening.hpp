#pragma once
// What a guest sends first through a tunnel, and whether it speaks to whom the tunnel was opened for. Pure.
//
// A tunnel is decided on by name, but an address on the other side may answer for many: whom of them the client means
// stands in TLS's first message or in a plain request's Host header. Both must agree with the name that was judged.

#include <cstddef>
#include <string>
#include <string_view>

#include "proxy/egress/policy.hpp"

namespace agentvm::egress {

enum class Opening {
  more,     ///< cannot be told yet
  pass,     ///< everything may pass from here on
  request,  ///< a plain HTTP request: `parse_tunnelled_head` is next
  refuse,
};

struct OpeningVerdict {
  Opening opening = Opening::more;
  std::string reason;      ///< with `refuse`: one line, safe to show
  bool tls = false;        ///< with `refuse`: the client takes a TLS alert
  std::size_t needed = 0;  ///< with `more`: fewer bytes than this in all leave it at that
};

/// `first`: everything that the client has sent into the tunnel to `target`. Decided within 32 KiB. Ports 80 and 443
/// carry HTTP, TLS and ssh; others, which somebody listed on purpose, whatever is neither HTTP nor TLS as well.
OpeningVerdict judge_opening(std::string_view first, const HostPort& target);

}  // namespace agentvm::egress
