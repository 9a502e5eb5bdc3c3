#include "proxy/egress/socks.hpp"

#include <algorithm>

namespace agentvm::egress {
namespace {

constexpr std::uint8_t no_authentication = 0, no_method = 0xff;
constexpr std::uint8_t connect_command = 1;
constexpr std::uint8_t v4_address = 1, name_address = 3, v6_address = 4;

std::uint8_t byte_at(std::string_view data, std::size_t index) {
  return static_cast<std::uint8_t>(data[index]);
}

SocksRequest fault(SocksReply reply, std::string reason) {
  return {.fault = SocksFault{reply, std::move(reason)}};
}

}  // namespace

SocksGreeting parse_socks_greeting(std::string_view data) {
  SocksGreeting greeting;
  if (data.empty()) return greeting;
  if (data[0] != socks_version) {
    greeting.fault = SocksFault{SocksReply::failed, "this is not SOCKS 5"};
    return greeting;
  }
  if (data.size() < 2) return greeting;
  const std::size_t count = byte_at(data, 1);
  if (count == 0) {
    greeting.fault = SocksFault{SocksReply::failed, "the SOCKS client offers no method"};
    return greeting;
  }
  if (data.size() < 2 + count) return greeting;
  const auto methods = data.substr(2, count);
  greeting.no_authentication = methods.find(static_cast<char>(no_authentication)) != std::string_view::npos;
  greeting.size = 2 + count;
  return greeting;
}

std::string socks_method(bool accepted) {
  return {socks_version, static_cast<char>(accepted ? no_authentication : no_method)};
}

SocksRequest parse_socks_request(std::string_view data) {
  if (!data.empty() && data[0] != socks_version) return fault(SocksReply::failed, "this is not SOCKS 5");
  if (data.size() > 1 && byte_at(data, 1) != connect_command)
    return fault(SocksReply::no_such_command, "SOCKS does nothing but CONNECT here");
  if (data.size() > 2 && data[2] != 0) return fault(SocksReply::failed, "the SOCKS request is malformed");
  if (data.size() > 3) {
    const auto kind = byte_at(data, 3);
    if (kind == v4_address || kind == v6_address)
      return fault(SocksReply::no_such_address,
                   "SOCKS takes names here, not addresses: let the proxy resolve (socks5h://)");
    if (kind != name_address) return fault(SocksReply::no_such_address, "the SOCKS request has no kind of address");
  }
  if (data.size() < 5) return {};
  const std::size_t length = byte_at(data, 4);
  if (length == 0) return fault(SocksReply::failed, "the SOCKS request has no host");
  // The rest is judged by the policy, which knows what a name is; bytes that no name has end here.
  const auto name = data.substr(5, length);
  if (!std::all_of(name.begin(), name.end(), [](char c) { return c > 0x20 && c < 0x7f; }))
    return fault(SocksReply::failed, "the host of the SOCKS request holds a character that does not belong there");
  if (data.size() < 5 + length + 2) return {};
  HostPort target{std::string(name),
                  static_cast<std::uint16_t>(byte_at(data, 5 + length) << 8 | byte_at(data, 5 + length + 1))};
  std::transform(target.host.begin(), target.host.end(), target.host.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (target.host.ends_with('.')) target.host.pop_back();
  if (target.host.empty()) return fault(SocksReply::failed, "the SOCKS request has no host");
  if (target.port == 0) return fault(SocksReply::failed, "the SOCKS request has no port");
  return {.target = std::move(target), .size = 5 + length + 2};
}

std::string socks_answer(SocksReply reply) {
  // BND.ADDR and BND.PORT are nobody's business.
  return {socks_version, static_cast<char>(reply), 0, static_cast<char>(v4_address), 0, 0, 0, 0, 0, 0};
}

}  // namespace agentvm::egress
