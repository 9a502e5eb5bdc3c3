// libFuzzer entry for what a guest sends first into a tunnel: a TLS ClientHello, a plain request, or anything.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "proxy/egress/client_hello.hpp"
#include "proxy/egress/head.hpp"
#include "proxy/egress/opening.hpp"

namespace {

using namespace agentvm::egress;

void demand(bool holds) {
  if (!holds) std::abort();
}

/// A verdict stands: what comes behind it changes nothing, and what came before it was none.
void check_hello(std::string_view data) {
  const auto whole = parse_client_hello(data);
  demand(!(whole.hello && whole.fault));
  if (whole.incomplete()) {
    demand(whole.needed > data.size() && whole.needed <= 2 * client_hello_limit_bytes);
    return;
  }
  if (whole.hello && whole.hello->name) demand(normal_host(*whole.hello->name) == *whole.hello->name);
  const auto more = parse_client_hello(std::string(data) + "\x16\x03\x01");
  demand(more.fault == whole.fault && more.hello.has_value() == whole.hello.has_value());
  if (whole.hello) demand(more.hello->name == whole.hello->name && more.hello->encrypted == whole.hello->encrypted);
  const auto half = parse_client_hello(data.substr(0, data.size() / 2));
  if (half.hello) demand(whole.hello && half.hello->name == whole.hello->name);
  if (half.fault) demand(whole.fault == half.fault);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (begins_tls(text)) check_hello(text);
  for (const HostPort& target : {HostPort{"good.test", 443}, HostPort{"good.test", 80}, HostPort{"good.test", 8080},
                                 HostPort{"192.0.2.1", 443}}) {
    const auto verdict = judge_opening(text, target);
    demand(verdict.opening != Opening::refuse || !verdict.reason.empty());
    if (verdict.opening == Opening::more) demand(verdict.needed > size && size <= 2 * client_hello_limit_bytes);
    // The same whoever reads it in however many pieces.
    if (verdict.opening == Opening::pass || verdict.opening == Opening::request)
      demand(judge_opening(std::string(text) + "\r\nx", target).opening == verdict.opening);
    if (verdict.opening != Opening::request) continue;
    const auto head = parse_tunnelled_head(text, target);
    demand(!(head.head && head.fault));
    if (head.head) demand(head.head->target == target && !head.head->tunnel && head.head->path.front() == '/');
  }
  return 0;
}
