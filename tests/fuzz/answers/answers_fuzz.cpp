// libFuzzer entry for the answers of a guest's agent that the host reads closely: ports, references and sessions, from
// any text.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "guest/control/ports.hpp"
#include "guest/control/refs.hpp"
#include "guest/control/sessions.hpp"
#include "guest/protocol/frame.hpp"

namespace {

using namespace agentvm;
using namespace agentvm::guest;

void demand(bool holds) {
  if (!holds) std::abort();
}

void demand_token(const std::string& token) {
  demand(!token.empty() && token.size() <= 64);
  demand(token.find_first_not_of("0123456789abcdef") == std::string::npos);
}

void demand_shown(const std::string& text) {
  for (const unsigned char c : text) demand((c >= 0x20 || c == '\t') && c != 0x7f);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Json body;
  try {
    body = parse_json({reinterpret_cast<const char*>(data), size}, "the answer");
  } catch (const Error&) {
    return 0;
  }
  try {
    demand_token(parse_guest_refs(body).token);
  } catch (const Error&) {
  }
  try {
    const auto sessions = parse_guest_sessions(body);
    demand_token(sessions.token);
    demand(sessions.sessions.size() <= session_limit);
    for (const auto& session : sessions.sessions) {
      demand_shown(session.name);
      demand(session.code >= 0 && session.code <= 255);
    }
  } catch (const Error&) {
  }
  try {
    const auto ports = parse_guest_ports(body);
    demand_token(ports.token);
    demand(ports.ports.size() <= listening_port_limit);
    for (const auto& port : ports.ports) {
      demand(port.number > 0);
      demand_shown(port.process);
      demand(port.address.find_first_not_of("0123456789abcdef:.") == std::string::npos);
    }
  } catch (const Error&) {
  }
  return 0;
}
