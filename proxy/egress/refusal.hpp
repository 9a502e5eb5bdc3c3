#pragma once
// What a guest reads when it may not connect: why, and what its user could do. Pure.

#include <string>

#include "proxy/egress/caps.hpp"
#include "proxy/egress/policy.hpp"

namespace agentvm::egress {

/// `target` as the user would write it in a rule: without a port where 80 and 443 are meant.
std::string rule_text(const HostPort& target);
/// What the user reads of a connection that waits for them, with the command that lets it pass. `target.host` must be
/// safe to show.
std::string question_text(const std::string& sandbox, const HostPort& target);
/// Why nothing more of a host may be taken.
std::string cap_text(const CapReached& reached);
/// One paragraph of plain text. `target.host` must be safe to show.
std::string refusal_text(const std::string& sandbox, const HostPort& target, const Verdict& verdict);

}  // namespace agentvm::egress
