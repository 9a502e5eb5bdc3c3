// libFuzzer entry for SOCKS: a greeting and the request behind it.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "proxy/egress/socks.hpp"

namespace {

using namespace agentvm::egress;

void demand(bool holds) {
  if (!holds) std::abort();
}

void check_request(std::string_view data) {
  const auto whole = parse_socks_request(data);
  demand(!(whole.target && whole.fault));
  if (whole.target) {
    demand(whole.size > 0 && whole.size <= data.size());
    demand(!whole.target->host.empty() && whole.target->host.size() <= 255 && whole.target->port != 0);
    demand(parse_socks_request(data.substr(0, whole.size)).target == whole.target);
    demand(parse_socks_request(data.substr(0, whole.size - 1)).incomplete());
  }
  if (whole.incomplete()) demand(data.size() < 5 + 255 + 2);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto greeting = parse_socks_greeting(text);
  demand(!(greeting.size > 0 && greeting.fault));
  demand(greeting.size <= size);
  if (greeting.size > 0) check_request(text.substr(greeting.size));
  check_request(text);
  return 0;
}
