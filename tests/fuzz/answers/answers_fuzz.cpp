// libFuzzer entry for the answers of a guest's agent that the host reads closely: ports, references, objects and
// sessions, from any text.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "guest/control/ports.hpp"
#include "guest/control/refs.hpp"
#include "guest/control/repository.hpp"
#include "guest/control/sessions.hpp"
#include "guest/protocol/frame.hpp"
#include "guest/protocol/objects.hpp"

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
    if (const auto references = parse_guest_references(body)) {
      demand(references->tips.size() <= reference_limit);
      demand_shown(references->head);
      for (const auto& [name, id] : references->tips) {
        demand_shown(name);
        demand(name.starts_with("refs/") && id.size() == object_id_length);
      }
    }
  } catch (const Error&) {
  }
  try {
    const std::vector<std::string> asked = {std::string(object_id_length, '1'), std::string(object_id_length, '2')};
    std::size_t bytes = 0;
    for (const auto& [id, content] : parse_guest_objects(body, asked)) {
      demand(id == asked[0] || id == asked[1]);
      bytes += content.size();
    }
    demand(bytes <= object_answer_limit_bytes);
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
