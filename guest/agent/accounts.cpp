#include "guest/agent/accounts.hpp"

#include <cstdlib>
#include <optional>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::guest::agent {
namespace {

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  for (std::size_t start = 0;;) {
    const auto end = text.find(separator, start);
    parts.push_back(text.substr(start, end == std::string::npos ? end : end - start));
    if (end == std::string::npos) return parts;
    start = end + 1;
  }
}

std::optional<unsigned> number(const std::string& text) {
  if (text.empty() || text.size() > 10 || text.find_first_not_of("0123456789") != std::string::npos)
    return std::nullopt;
  return static_cast<unsigned>(std::strtoul(text.c_str(), nullptr, 10));
}

}  // namespace

Account find_account(const std::filesystem::path& root, const std::string& user) {
  for (const auto& line : split(read_file(root / "etc/passwd", 1u << 20), '\n')) {
    const auto fields = split(line, ':');
    if (fields.size() < 7 || fields[0] != user) continue;
    const auto uid = number(fields[2]), gid = number(fields[3]);
    if (!uid || !gid) continue;
    Account account{user,  fields[5].empty() ? "/" : fields[5], fields[6].empty() ? "/bin/sh" : fields[6], *uid, *gid,
                    {*gid}};
    for (const auto& group_line : split(read_file_if_exists(root / "etc/group", 1u << 20).value_or(""), '\n')) {
      const auto group = split(group_line, ':');
      const auto id = group.size() < 4 ? std::nullopt : number(group[2]);
      if (!id || *id == *gid) continue;
      for (const auto& member : split(group[3], ','))
        if (member == user && account.groups.size() < 64) account.groups.push_back(*id);
    }
    return account;
  }
  throw Error(ErrorCode::not_found, "the guest has no user '" + user + "'");
}

}  // namespace agentvm::guest::agent
