#include "guest/control/sessions.hpp"

#include <algorithm>

#include "guest/control/token.hpp"
#include "guest/protocol/frame.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::guest {
namespace {

constexpr std::size_t name_limit_bytes = 128;

[[noreturn]] void refuse(const char* what) {
  throw Error(ErrorCode::operation_failed, std::string("the guest's agent tells of sessions with ") + what);
}

}  // namespace

GuestSessions parse_guest_sessions(const Json& body) {
  GuestSessions result{checked_token(body, "sessions"), {}};
  const auto list = require<Json>(body, "sessions");
  if (!list.is_array() || list.size() > session_limit) refuse("too long a list");
  for (const auto& entry : list) {
    GuestSession session;
    session.name = clean_guest_text(require<std::string>(entry, "name"), Newlines::escape, name_limit_bytes);
    const auto state = require<std::string>(entry, "state");
    const auto known = std::find(std::begin(session_states), std::end(session_states), state);
    if (known == std::end(session_states)) refuse("an unknown state");
    session.state = *known;
    if (session.state == "ended") {
      const auto code = require<std::int64_t>(entry, "code");
      if (code < 0 || code > 255) refuse("a status that is none");
      session.code = static_cast<int>(code);
    }
    result.sessions.push_back(std::move(session));
  }
  return result;
}

}  // namespace agentvm::guest
