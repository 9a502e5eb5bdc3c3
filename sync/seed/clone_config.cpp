#include "sync/seed/clone_config.hpp"

#include <map>

namespace agentvm::sync {

std::string address_without_secret(const std::string& address) {
  const auto scheme_end = address.find("://");
  if (scheme_end == std::string::npos) return address;
  const auto host_start = scheme_end + 3;
  const auto host_end = std::min(address.find_first_of("/?#", host_start), address.size());
  const auto at = address.rfind('@', host_end);
  if (at == std::string::npos || at < host_start || at >= host_end) return address;
  const auto scheme = address.substr(0, scheme_end);
  std::string user;
  if (scheme == "ssh" || scheme == "git+ssh" || scheme == "ssh+git")
    user = address.substr(host_start, std::min(address.find(':', host_start), at) - host_start) + "@";
  return address.substr(0, host_start) + user + address.substr(at + 1);
}

std::string config_section(const std::string& section, const std::string& subsection) {
  std::string text = "[" + section + " \"";
  for (const char c : subsection) {
    if (c == '"' || c == '\\') text += '\\';
    text += c;
  }
  return text + "\"]\n";
}

std::string config_setting(const std::string& key, const std::string& value) {
  std::string text = "\t" + key + " = \"";
  for (const char c : value) {
    if (c == '\n') {
      text += "\\n";
      continue;
    }
    if (c == '"' || c == '\\') text += '\\';
    text += c;
  }
  return text + "\"\n";
}

std::string copied_config(const HostGit& git, Deadline deadline) {
  const auto listing =
      git.run({"config", "--null", "--get-regexp", R"(^(remote\..*\.(url|pushurl|fetch)|branch\..*\.(remote|merge))$)"},
              deadline);
  std::string text, last_section;
  if (!listing.status.ok()) return text;  // exit 1: no such key
  for (const auto& item : split_nul(listing.out)) {
    const auto newline = item.find('\n');
    const auto name = item.substr(0, newline);
    auto value = newline == std::string::npos ? std::string() : item.substr(newline + 1);
    const auto first = name.find('.'), last = name.rfind('.');
    if (first == std::string::npos || first == last) continue;
    const auto key = name.substr(last + 1);
    if (key == "url" || key == "pushurl") value = address_without_secret(value);
    const auto subsection = name.substr(first + 1, last - first - 1);
    if (subsection.find('\n') != std::string::npos) continue;
    const auto section = config_section(name.substr(0, first), subsection);
    if (section != last_section) text += section;
    last_section = section;
    text += config_setting(key, value);
  }
  return text;
}

}  // namespace agentvm::sync
