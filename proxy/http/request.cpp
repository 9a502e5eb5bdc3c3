#include <algorithm>

#include "proxy/http/fields.hpp"

namespace agentvm::http {
namespace {

/// What a client may not say to a server through us, under any of the names that servers read it by.
bool is_forwarding(std::string_view name) {
  std::string plain = lower(name);
  std::replace(plain.begin(), plain.end(), '_', '-');
  return plain == "forwarded" || plain == "x-real-ip" || plain.starts_with("x-forwarded-") || plain == "x-forwarded" ||
         plain == "x-original-host" || plain == "x-host";
}

void parse_request_line(std::string_view line, Request& request) {
  const auto first = line.find(' '), last = line.rfind(' ');
  if (first == line.npos || first == last) refuse("the request line is malformed");
  const auto method = line.substr(0, first), target = line.substr(first + 1, last - first - 1),
             version = line.substr(last + 1);
  if (!is_token(method) || method.size() > 32) refuse("the method is malformed");
  if (version != "HTTP/1.1" && version != "HTTP/1.0") refuse("only HTTP/1.1 and HTTP/1.0 are spoken here", 505);
  request.minor = version.back() - '0';
  if (method == "CONNECT" || method == "TRACE") refuse("CONNECT and TRACE are not served", 405);
  // Visible ASCII only, and no fragment: what a server could read differently does not pass.
  if (target.empty() ||
      !std::all_of(target.begin(), target.end(), [](char c) { return c > 0x20 && c < 0x7f && c != '#'; }))
    refuse("the request target holds a character that does not belong there");
  if (target.front() != '/' && !(target == "*" && method == "OPTIONS"))
    refuse("the request target must be a path: this is no forward proxy");
  request.method = method;
  request.target = target;
}

void apply_host(const FieldBlock& block, Request& request) {
  if (!block.host) refuse("the Host header is missing");
  request.host = lower(*block.host);
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == ':' || c == '[' || c == ']';
  };
  if (request.host.empty() || request.host.size() > 262 || !std::all_of(request.host.begin(), request.host.end(), fits))
    refuse("the Host header is malformed");
}

void apply_framing(const FieldBlock& block, Request& request) {
  if (block.length && block.coding) refuse("both Content-Length and Transfer-Encoding are given");
  if (block.coding) {
    if (request.minor == 0) refuse("HTTP/1.0 has no Transfer-Encoding");
    if (lower(*block.coding) != "chunked") refuse("the only Transfer-Encoding understood is chunked", 501);
    request.body.kind = Framing::Kind::chunked;
  } else if (block.length) {
    request.body = {Framing::Kind::sized, parse_length(*block.length)};
  }
}

void apply_connection(const FieldBlock& block, Request& request) {
  request.keep_alive = !block.has_connection("close") && (request.minor == 1 || block.has_connection("keep-alive"));
  if (block.expect) {
    if (lower(*block.expect) != "100-continue") refuse("the only expectation understood is 100-continue", 417);
    request.expects_continue = request.minor == 1 && request.body.kind != Framing::Kind::none;
  }
  const bool asks = block.has_connection("upgrade") && block.upgrade == std::vector<std::string>{"websocket"};
  if (asks && request.minor == 1 && request.method == "GET") {
    if (request.body.kind != Framing::Kind::none) refuse("a request for websocket has no body");
    request.websocket = true;
  }
}

}  // namespace

Parsed<Request> parse_request(std::string_view data, std::size_t seen_bytes) {
  try {
    const auto size = head_size(data, seen_bytes);
    if (size == 0) return {};
    auto text = data.substr(0, size - 2);
    Request request;
    parse_request_line(cut_line(text), request);
    auto block = parse_field_block(text);
    apply_host(block, request);
    apply_framing(block, request);
    apply_connection(block, request);
    if (block.origin) request.origin = *block.origin;
    request.fields = std::move(block.fields);
    std::erase_if(request.fields, [](const Field& field) { return is_forwarding(field.name); });
    return {std::move(request), std::nullopt, size};
  } catch (const Refused& refused) {
    return {std::nullopt, refused.fault, 0};
  }
}

}  // namespace agentvm::http
