#include "proxy/http/rewrite.hpp"

#include <fmt/format.h>

namespace agentvm::http {
namespace {

using Kind = Framing::Kind;

void add_fields(std::string& text, const Fields& fields) {
  for (const auto& [name, value] : fields) {
    text += name;
    text += ": ";
    text += value;
    text += "\r\n";
  }
}

std::string first_lines(const Request& request) {
  std::string text = fmt::format("{} {} HTTP/1.1\r\nHost: {}\r\n", request.method, request.target, request.host);
  add_fields(text, request.fields);
  return text;
}

void add_end(std::string& text, const Request& request) {
  if (request.body.kind == Kind::sized) text += fmt::format("Content-Length: {}\r\n", request.body.bytes);
  if (request.body.kind == Kind::chunked) text += "Transfer-Encoding: chunked\r\n";
  if (request.expects_continue) text += "Expect: 100-continue\r\n";
  text += request.websocket ? "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n" : "Connection: keep-alive\r\n\r\n";
}

}  // namespace

std::string request_head(const Request& request) {
  std::string text = first_lines(request);
  add_end(text, request);
  return text;
}

std::string request_head(const Request& request, const Forwarding& forwarding) {
  std::string text = first_lines(request);
  text += fmt::format("X-Forwarded-For: {}\r\nX-Forwarded-Host: {}\r\nX-Forwarded-Proto: {}\r\n", forwarding.client,
                      request.host, forwarding.scheme);
  add_end(text, request);
  return text;
}

Framing framing_for_client(const Response& response, int client_minor) {
  const bool open_ended = response.body.kind == Kind::chunked || response.body.kind == Kind::until_close;
  if (!open_ended) return response.body;
  return {client_minor == 1 ? Kind::chunked : Kind::until_close, 0};
}

std::string response_head(const Response& response, const Framing& framing, bool keep_alive) {
  std::string text = fmt::format("HTTP/1.1 {} {}\r\n", response.status, response.reason);
  add_fields(text, response.fields);
  if (response.interim()) return text + "\r\n";
  if (response.websocket) return text + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
  if (framing.kind == Kind::chunked)
    text += "Transfer-Encoding: chunked\r\n";
  else if (framing.kind != Kind::until_close && response.length)
    text += fmt::format("Content-Length: {}\r\n", *response.length);
  text += keep_alive ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n";
  return text;
}

std::string_view reason_phrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 308:
      return "Permanent Redirect";
    case 400:
      return "Bad Request";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 417:
      return "Expectation Failed";
    case 421:
      return "Misdirected Request";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 501:
      return "Not Implemented";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "";
  }
}

}  // namespace agentvm::http
