#pragma once
// Field lines and what they mean for a connection: shared by requests, responses and trailers. Private to proxy/http.

#include "proxy/http/head.hpp"

namespace agentvm::http {

/// Thrown while parsing; caught at the edge of each parser.
struct Refused {
  Fault fault;
};
[[noreturn]] void refuse(std::string reason, int status = 400);

std::string lower(std::string_view text);
std::string_view trimmed(std::string_view text);
bool is_token(std::string_view text);

/// The size of the head at the start of `data` with its empty line; 0 while it is incomplete. Throws `Refused` for a
/// bare CR, LF or NUL and for what is too large.
std::size_t head_size(std::string_view data, std::size_t seen_bytes);

/// Cuts the first line (with its CRLF) off `text` and returns it without.
std::string_view cut_line(std::string_view& text);

/// Views into the line.
struct FieldLine {
  std::string_view name, value;
};
FieldLine parse_field_line(std::string_view line);

/// What a block of field lines says about framing and connection; the rest is in `fields`.
struct FieldBlock {
  Fields fields;
  std::optional<std::string_view> host, length, coding, expect, origin;
  std::vector<std::string> connection, upgrade;  // in lower case
  bool has_connection(std::string_view option) const;
};
/// `text` holds whole lines. Removes what is hop-by-hop, and what Connection names.
FieldBlock parse_field_block(std::string_view text);

std::uint64_t parse_length(std::string_view text);

}  // namespace agentvm::http
