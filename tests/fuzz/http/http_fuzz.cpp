// libFuzzer entry for both sides of the reverse proxy: a head, and the body that it frames. What is written anew must
// be read by us as the same message, with nothing left over.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "proxy/http/body.hpp"
#include "proxy/http/rewrite.hpp"

namespace {

using namespace agentvm::http;

void demand(bool holds) {
  if (!holds) std::abort();
}

void check_lines(const std::string& text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n') demand(i > 0 && text[i - 1] == '\r');
    if (text[i] == '\r') demand(i + 1 < text.size() && text[i + 1] == '\n');
    demand(text[i] != '\0');
  }
  demand(text.find("\r\n\r\n") == text.size() - 4);
}

bool fits(const std::string& text, const Fields& fields) {
  return text.size() < head_limit_bytes && fields.size() + 8 < field_limit;
}

void check_request(const Request& head) {
  const auto text = request_head(head, {});
  check_lines(text);
  if (!fits(text, head.fields)) return;
  const auto again = parse_request(text);
  demand(again.head.has_value() && again.size == text.size());
  demand(again.head->method == head.method && again.head->target == head.target && again.head->host == head.host);
  demand(again.head->fields == head.fields && again.head->body == head.body);
  demand(again.head->websocket == head.websocket && again.head->expects_continue == head.expects_continue);
}

void check_response(const Response& head, std::string_view method) {
  for (const int minor : {0, 1}) {
    const auto framing = framing_for_client(head, minor);
    const auto text = response_head(head, framing, minor == 1);
    check_lines(text);
    if (!fits(text, head.fields)) continue;
    const auto again = parse_response(text, method);
    demand(again.head.has_value() && again.size == text.size());
    demand(again.head->status == head.status && again.head->fields == head.fields);
    demand(again.head->body == framing && again.head->websocket == head.websocket);
  }
}

void check_body(std::string_view rest, const Framing& framing) {
  BodyReader reader(framing), bytewise(framing);
  std::string data, again;
  const auto all = rest;
  while (!rest.empty()) {
    const auto [used, piece] = reader.take(rest);
    demand(used <= rest.size() && piece.size() <= used);
    data += piece;
    rest.remove_prefix(used);
    if (used == 0) break;
  }
  demand(rest.empty() || reader.done() || reader.broken());
  for (std::size_t i = 0; i < all.size() && !bytewise.done() && !bytewise.broken(); ++i)
    again += bytewise.take(all.substr(i, 1)).data;
  demand(again == data && bytewise.done() == reader.done() && bytewise.broken() == reader.broken());
  if (!reader.done() || framing.kind != Framing::Kind::chunked) return;
  BodyReader third(framing);
  const auto text = (data.empty() ? "" : chunk_head(data.size()) + data + "\r\n") + last_chunk(reader.trailers());
  std::size_t at = 0;
  while (!third.done()) {
    const auto [used, piece] = third.take(std::string_view(text).substr(at));
    demand(used > 0 && !third.broken());
    at += used;
  }
  demand(at == text.size() && third.trailers() == reader.trailers());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto request = parse_request(text);
  demand(!(request.head && request.fault));
  if (request.head) {
    check_request(*request.head);
    check_body(text.substr(request.size), request.head->body);
  }
  for (const std::string_view method : {"GET", "HEAD"}) {
    const auto response = parse_response(text, method);
    demand(!(response.head && response.fault));
    if (!response.head) continue;
    check_response(*response.head, method);
    check_body(text.substr(response.size), response.head->body);
  }
  check_body(text, {Framing::Kind::chunked, 0});
  return 0;
}
