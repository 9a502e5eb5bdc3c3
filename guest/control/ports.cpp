#include "guest/control/ports.hpp"

#include <arpa/inet.h>

#include "guest/control/token.hpp"
#include "guest/protocol/frame.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::guest {
namespace {

constexpr std::size_t process_limit_bytes = 64, folder_limit_bytes = 512;

[[noreturn]] void refuse(const char* what) {
  throw Error(ErrorCode::operation_failed, std::string("the guest's agent tells of ports with ") + what);
}

/// As it is written by inet_ntop; anything else could be read as a name.
std::string checked_address(const std::string& text) {
  unsigned char bytes[16];
  char again[INET6_ADDRSTRLEN] = "";
  const int family = text.find(':') == text.npos ? AF_INET : AF_INET6;
  if (text.size() >= sizeof again || ::inet_pton(family, text.c_str(), bytes) != 1 ||
      !::inet_ntop(family, bytes, again, sizeof again) || text != again)
    refuse("a malformed address");
  return text;
}

}  // namespace

GuestPorts parse_guest_ports(const Json& body) {
  GuestPorts result{checked_token(body, "ports"), {}};
  const auto list = require<Json>(body, "ports");
  if (!list.is_array() || list.size() > listening_port_limit) refuse("too long a list");
  for (const auto& entry : list) {
    const auto number = require<std::int64_t>(entry, "port");
    if (number < 1 || number > 65535) refuse("a number that is none");
    result.ports.push_back(
        {static_cast<std::uint16_t>(number), checked_address(require<std::string>(entry, "address")),
         clean_guest_text(require<std::string>(entry, "process"), Newlines::escape, process_limit_bytes),
         clean_guest_text(require<std::string>(entry, "folder"), Newlines::escape, folder_limit_bytes)});
  }
  return result;
}

}  // namespace agentvm::guest
