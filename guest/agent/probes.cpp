#include "guest/agent/probes.hpp"

#include <cstdlib>
#include <string_view>

#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/files.hpp"

namespace agentvm::guest::agent {
namespace {

/// Calls `look(line)` for each line until it returns true.
template <class Look>
bool any_line(const std::string& text, Look look) {
  for (std::size_t start = 0; start < text.size();) {
    const auto end = std::min(text.find('\n', start), text.size());
    if (look(std::string_view(text).substr(start, end - start))) return true;
    start = end + 1;
  }
  return false;
}

/// A line of /proc/net/tcp: "  0: 00000000:0016 00000000:0000 0A ...": number, local, remote, state; 0A is LISTEN.
bool line_listens(std::string_view line, unsigned port) {
  std::string_view fields[4];
  for (auto& field : fields) {
    const auto start = line.find_first_not_of(' ');
    if (start == std::string_view::npos) return false;
    const auto end = std::min(line.find(' ', start), line.size());
    field = line.substr(start, end - start);
    line.remove_prefix(end);
  }
  const auto colon = fields[1].find(':');
  if (fields[3] != "0A" || colon == std::string_view::npos) return false;
  return std::strtoul(std::string(fields[1].substr(colon + 1)).c_str(), nullptr, 16) == port;
}

}  // namespace

bool port_listens(const std::filesystem::path& root, unsigned port) {
  for (const char* table : {"proc/net/tcp", "proc/net/tcp6"}) {
    const auto text = read_file_if_exists(root / table, 8u << 20);
    if (text && any_line(*text, [port](std::string_view line) { return line_listens(line, port); })) return true;
  }
  return false;
}

bool ssh_ready(const std::filesystem::path& root, unsigned port) {
  return port_listens(root, port) && ::access((root / "run/nologin").c_str(), F_OK) != 0;
}

bool workspace_ready(const std::filesystem::path& root, WorkspaceKind kind) {
  const auto folder = root / "workspace";
  struct stat status {};
  if (kind == WorkspaceKind::none) return true;
  if (kind == WorkspaceKind::disk)
    return ::lstat(folder.c_str(), &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == agent_uid;
  const auto mounts = read_file_if_exists(root / "proc/self/mountinfo", 4u << 20);
  return mounts && any_line(*mounts, [](std::string_view line) {
           return line.find(" /workspace ") != std::string_view::npos &&
                  line.find(" - virtiofs ") != std::string_view::npos;
         });
}

}  // namespace agentvm::guest::agent
