// libFuzzer entry for what a guest sends to the egress proxy: the head, then a chunked body.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "proxy/egress/head.hpp"

namespace {

void demand(bool holds) {
  if (!holds) std::abort();
}

void check_accepted(const agentvm::egress::RequestHead& head) {
  if (head.tunnel) return;
  // What is written must be read as the same request by a parser as strict as ours, once it is in the form meant for
  // proxies again.
  std::string text = head.serialise();
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n') demand(i > 0 && text[i - 1] == '\r');
    if (text[i] == '\r') demand(i + 1 < text.size() && text[i + 1] == '\n');
    demand(text[i] != '\0');
  }
  demand(text.find("\r\n\r\n") == text.size() - 4);
  const auto space = text.find(' ');
  text.insert(space + 1, "http://" + head.target.str());
  const auto again = agentvm::egress::parse_head(text);
  if (text.size() >= agentvm::egress::head_limit_bytes || head.headers.size() + 3 > agentvm::egress::header_limit)
    return;
  demand(again.head.has_value());
  demand(again.head->method == head.method && again.head->path == head.path && again.head->target == head.target);
  demand(again.head->headers == head.headers && again.head->body == head.body &&
         again.head->body_bytes == head.body_bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto result = agentvm::egress::parse_head(text);
  demand(!(result.head && result.fault));
  std::string_view body = text;
  if (result.head) {
    demand(result.size > 0 && result.size <= size);
    check_accepted(*result.head);
    body.remove_prefix(result.size);
  }
  agentvm::egress::ChunkDecoder decoder;
  std::string out;
  const std::size_t used = decoder.feed(body, out);
  demand(used <= body.size() && out.size() <= body.size());
  demand(decoder.done() || !decoder.ok() || used == body.size());
  return 0;
}
