#include "guest/image/settings.hpp"

#include <algorithm>
#include <functional>
#include <sstream>

#include <fmt/format.h>

namespace agentvm {
namespace {

/// The part of a line between its colons.
std::string field(const std::string& line, std::size_t index) {
  std::istringstream parts(line);
  std::string part;
  for (std::size_t i = 0; std::getline(parts, part, ':'); ++i)
    if (i == index) return part;
  return "";
}

std::string without(const std::string& text, const std::function<bool(const std::string& line)>& gone) {
  std::istringstream lines(text);
  std::string result;
  for (std::string line; std::getline(lines, line);)
    if (!gone(line)) result += line + "\n";
  return result;
}

}  // namespace

std::string join_group(const std::string& text, const std::string& group) {
  std::istringstream lines(text);
  std::string result;
  for (std::string line; std::getline(lines, line); result += line + "\n")
    if (line.starts_with(group + ":")) line += line.ends_with(":") ? "agent" : ",agent";
  return result;
}

std::vector<std::string> add_agent_account(Accounts& accounts, const std::string& shell) {
  std::vector<std::string> gone;
  const auto named = [](const std::vector<std::string>& names, const std::string& line) {
    return std::find(names.begin(), names.end(), field(line, 0)) != names.end();
  };
  accounts.passwd = without(accounts.passwd, [&](const std::string& line) {
    const bool taken = field(line, 0) == "agent" || field(line, 2) == std::to_string(agent_uid);
    if (taken) gone.push_back(field(line, 0));
    return taken;
  });
  std::vector<std::string> groups;
  accounts.group = without(accounts.group, [&](const std::string& line) {
    const bool taken = field(line, 0) == "agent" || field(line, 2) == std::to_string(agent_gid);
    if (taken) groups.push_back(field(line, 0));
    return taken;
  });
  accounts.shadow = without(accounts.shadow, [&](const std::string& line) { return named(gone, line); });
  accounts.gshadow = without(accounts.gshadow, [&](const std::string& line) { return named(groups, line); });

  accounts.passwd += fmt::format("agent:x:{}:{}:agent:/home/agent:{}\n", agent_uid, agent_gid, shell);
  // "*" and not "!": sshd without PAM takes "!" for a locked account and refuses its keys, too.
  accounts.shadow += "agent:*:19700:0:99999:7:::\n";
  accounts.group += fmt::format("agent:x:{}:\n", agent_gid);
  if (!accounts.gshadow.empty()) accounts.gshadow += "agent:!::\n";
  for (const auto* group : {"adm", "sudo", "wheel", "systemd-journal"})
    for (auto* text : {&accounts.group, &accounts.gshadow}) *text = join_group(*text, group);
  return gone;
}

}  // namespace agentvm
