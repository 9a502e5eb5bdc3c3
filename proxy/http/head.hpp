#pragma once
// The heads of HTTP/1.1 messages, parsed strictly: what two parsers could read differently is refused, never repaired.
// Pure.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace agentvm::http {

inline constexpr std::size_t head_limit_bytes = 64 * 1024;
inline constexpr std::size_t field_limit = 128;

/// `name` as it was written; compare with `same_name`.
struct Field {
  std::string name, value;
  bool operator==(const Field&) const = default;
};
using Fields = std::vector<Field>;
/// ASCII case does not count.
bool same_name(std::string_view a, std::string_view b);
/// nullptr when there is none; the first when there are several.
const std::string* find_field(const Fields& fields, std::string_view name);

/// Where the body of a message ends.
struct Framing {
  enum class Kind { none, sized, chunked, until_close } kind = Kind::none;
  std::uint64_t bytes = 0;  ///< with `sized`
  bool operator==(const Framing&) const = default;
};

struct Request {
  std::string method;
  std::string target;  ///< origin form, or "*" with OPTIONS
  int minor = 1;       ///< of HTTP/1.x
  std::string host;    ///< the Host field, in lower case
  Fields fields;  ///< end-to-end only: no Host, no framing, nothing hop-by-hop or named by Connection, no forwarding
  Framing body;
  bool keep_alive = true;
  bool expects_continue = false;
  bool websocket = false;             ///< asks for an upgrade to websocket; other upgrades are not offered on
  std::optional<std::string> origin;  ///< also among `fields`
};

struct Response {
  int status = 0;
  std::string reason;
  int minor = 1;
  Fields fields;                        ///< end-to-end only, as with `Request`
  Framing body;                         ///< for the method it answers
  std::optional<std::uint64_t> length;  ///< Content-Length, also where there is no body (HEAD, 304)
  bool keep_alive = true;
  bool websocket = false;  ///< a 101 that switches to websocket
  bool interim() const { return status < 200 && status != 101; }
};

/// Why a message is refused.
struct Fault {
  int status;          ///< for a request: 400, 405, 417, 431, 501 or 505; 502 for a response
  std::string reason;  ///< one line, safe to show
};

template <class Head>
struct Parsed {
  std::optional<Head> head;
  std::optional<Fault> fault;
  std::size_t size = 0;  ///< bytes of the head, with `head`
  bool incomplete() const { return !head && !fault; }
};

/// Parses the head at the start of `data`. Incomplete until the empty line is there; a fault as soon as it is certain.
/// Never throws on bad input. `seen_bytes`: how much of `data` an earlier call found incomplete; it is not looked
/// through again.
Parsed<Request> parse_request(std::string_view data, std::size_t seen_bytes = 0);
/// As above; `method` is that of the request which `data` answers.
Parsed<Response> parse_response(std::string_view data, std::string_view method, std::size_t seen_bytes = 0);

}  // namespace agentvm::http
