#pragma once
// The head of a proxy request, parsed strictly and written anew: what leaves is made from what was understood. Pure.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "proxy/egress/policy.hpp"

namespace agentvm::egress {

inline constexpr std::size_t head_limit_bytes = 64 * 1024;
inline constexpr std::size_t header_limit = 100;

struct RequestHead {
  enum class Body { none, sized, chunked };
  std::string method;
  bool tunnel = false;  ///< CONNECT
  HostPort target;      ///< host as the guest wrote it in lower case; `EgressPolicy::decide` judges it
  std::string path;     ///< with the query; empty for a tunnel
  std::vector<std::pair<std::string, std::string>> headers;  ///< end-to-end ones only, without Host and framing
  Body body = Body::none;
  std::uint64_t body_bytes = 0;  ///< with `sized`

  /// The request for the origin server: origin form, own Host and framing, `Connection: close`.
  std::string serialise() const;
  /// The same for a proxy that is asked for it: absolute form, with `authorization` as Proxy-Authorization unless
  /// empty.
  std::string serialise_for_proxy(const std::string& authorization) const;

 private:
  std::string authority() const;
  std::string text(const std::string& request_target, const std::string& authorization) const;
};

/// Why a request is refused.
struct HeadFault {
  int status;          ///< 400, 403, 431, 501 or 505
  std::string reason;  ///< one line, safe to show
};

struct HeadResult {
  std::optional<RequestHead> head;
  std::optional<HeadFault> fault;
  std::size_t size = 0;  ///< bytes of the head, with `head`
  bool incomplete() const { return !head && !fault; }
};

/// Parses the head at the start of `data`. Incomplete until the empty line is there; a fault as soon as it is certain.
/// Never throws on bad input. `seen_bytes`: how much of `data` an earlier call found incomplete; it is not looked
/// through again.
HeadResult parse_head(std::string_view data, std::size_t seen_bytes = 0);

/// The same for a request inside a tunnel to `tunnel`: it is in origin form, and its Host header must name that host. A
/// fault has the status 403 when it names another.
HeadResult parse_tunnelled_head(std::string_view data, const HostPort& tunnel, std::size_t seen_bytes = 0);

/// Undoes chunked coding strictly, a piece at a time.
class ChunkDecoder {
 public:
  /// Takes `data`, appends the decoded bytes to `out`; returns how much was used. Bytes after the end are not touched.
  /// False in `ok()` afterwards when the coding is broken.
  std::size_t feed(std::string_view data, std::string& out);
  bool done() const { return state_ == State::done; }
  bool ok() const { return state_ != State::broken; }

 private:
  enum class State { size, extension, size_lf, data, data_cr, data_lf, trailer, trailer_lf, done, broken };
  void step(char c);
  State state_ = State::size;
  std::uint64_t left_ = 0;
  unsigned digits_ = 0;
  std::size_t overhead_ = 0;      // of the current extension or of the trailer
  std::size_t trailer_line_ = 0;  // bytes in the current trailer line
};

}  // namespace agentvm::egress
