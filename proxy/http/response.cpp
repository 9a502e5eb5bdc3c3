#include <algorithm>

#include "proxy/http/fields.hpp"

namespace agentvm::http {
namespace {

void parse_status_line(std::string_view line, Response& response) {
  constexpr std::size_t shortest = 13;  // "HTTP/1.1 200 "
  if (line.size() < shortest || (!line.starts_with("HTTP/1.1 ") && !line.starts_with("HTTP/1.0 ")) || line[12] != ' ')
    refuse("the status line is malformed");
  response.minor = line[7] - '0';
  const auto digits = line.substr(9, 3);
  if (!std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; }) || digits[0] < '1' ||
      digits[0] > '5')
    refuse("the status is malformed");
  response.status = (digits[0] - '0') * 100 + (digits[1] - '0') * 10 + (digits[2] - '0');
  const auto reason = line.substr(shortest);
  for (const unsigned char c : reason)
    if ((c < 0x20 && c != '\t') || c == 0x7f) refuse("the reason phrase holds a control character");
  response.reason = reason;
}

void apply_framing(const FieldBlock& block, std::string_view method, Response& response) {
  if (block.length && block.coding) refuse("both Content-Length and Transfer-Encoding are given");
  if (block.length) response.length = parse_length(*block.length);
  if (block.coding && response.minor == 0) refuse("HTTP/1.0 has no Transfer-Encoding");
  if (block.coding && lower(*block.coding) != "chunked") refuse("the only Transfer-Encoding understood is chunked");
  if (response.status < 200 || response.status == 204) {
    // A body here would be read as the next answer.
    if (block.coding || response.length.value_or(0) > 0) refuse("there is a body where none can be");
    response.length.reset();
  } else if (method == "HEAD" || response.status == 304) {
    // None, whatever the length says.
  } else if (block.coding) {
    response.body.kind = Framing::Kind::chunked;
  } else if (response.length) {
    response.body = {Framing::Kind::sized, *response.length};
  } else {
    response.body.kind = Framing::Kind::until_close;
  }
}

}  // namespace

Parsed<Response> parse_response(std::string_view data, std::string_view method, std::size_t seen_bytes) {
  try {
    const auto size = head_size(data, seen_bytes);
    if (size == 0) return {};
    auto text = data.substr(0, size - 2);
    Response response;
    parse_status_line(cut_line(text), response);
    auto block = parse_field_block(text);
    apply_framing(block, method, response);
    response.keep_alive = !block.has_connection("close") &&
                          (response.minor == 1 || block.has_connection("keep-alive")) &&
                          response.body.kind != Framing::Kind::until_close;
    response.websocket = response.status == 101 && block.has_connection("upgrade") &&
                         block.upgrade == std::vector<std::string>{"websocket"};
    response.fields = std::move(block.fields);
    return {std::move(response), std::nullopt, size};
  } catch (Refused& refused) {
    refused.fault.status = 502;
    return {std::nullopt, refused.fault, 0};
  }
}

}  // namespace agentvm::http
