#include "proxy/egress/refusal.hpp"

#include <fmt/format.h>

namespace agentvm::egress {

std::string rule_text(const HostPort& target) {
  const bool usual = target.port == 80 || target.port == 443;
  if (!usual) return target.str();
  return target.host.find(':') == std::string::npos ? target.host : "[" + target.host + "]";
}

std::string question_text(const std::string& sandbox, const HostPort& target) {
  return fmt::format("waits for you: agentvm egress allow {} {}", sandbox, rule_text(target));
}

std::string cap_text(const CapReached& reached) {
  return fmt::format("the cap '{}' is reached; there is room again in {} seconds", reached.cap, reached.seconds);
}

std::string refusal_text(const std::string& sandbox, const HostPort& target, const Verdict& verdict) {
  std::string text =
      fmt::format("agentvm: sandbox {} may not connect to {}: {}.\n", sandbox, target.str(), verdict.reason);
  switch (verdict.cause) {
    case Cause::not_listed:
    case Cause::other_port:
      if (looks_numeric(target.host)) return text + "Use a name: rules are about names.\n";
      return text + fmt::format("If you need it, ask the user to run on the host: agentvm egress allow {} {}\n",
                                sandbox, rule_text(target));
    case Cause::denied_by_rule:
      return text + "The user denied it on purpose; do not look for a way around.\n";
    case Cause::special_address:
      return text + fmt::format(
                        "If you need it, ask the user to add '{}' to egress.grants in their own configuration "
                        "file and to restart the sandbox.\n",
                        target.str());
    case Cause::other_name:
      return text + "Ask the proxy for the name that you mean.\n";
    case Cause::placeholder:
      return text + "It stands for a secret that stays on the host, and was not sent on.\n";
    case Cause::frozen:
      return text + fmt::format("The user can let it go on, on the host: agentvm resume {}\n", sandbox);
    case Cause::cap:
      return text + "The user has set that limit (egress.caps); wait, or ask them.\n";
    case Cause::decoy:
    case Cause::bad_name:
    case Cause::allowed:
      return text;
  }
  return text;
}

}  // namespace agentvm::egress
