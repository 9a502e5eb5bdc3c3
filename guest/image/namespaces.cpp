#include "guest/image/namespaces.hpp"

#include <sstream>

#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"

namespace agentvm {
namespace {

constexpr unsigned long ids_needed = 65536;

void need_program(const char* name, const char* package) {
  if (find_program(name).empty())
    throw Error(ErrorCode::host_lacks, fmt::format("the program '{}' is not installed", name),
                fmt::format("sudo apt-get install {}", package));
}

/// Whether `file` (/etc/subuid) gives the user a range that holds every id a Debian system uses.
bool has_range(const char* file, const std::string& user, const std::string& id) {
  std::istringstream lines(read_file_if_exists(file).value_or(""));
  for (std::string line; std::getline(lines, line);) {
    const auto first = line.find(':'), second = line.rfind(':');
    if (first == std::string::npos || first == second) continue;
    const auto owner = line.substr(0, first);
    if (owner != user && owner != id) continue;
    if (std::strtoul(line.c_str() + second + 1, nullptr, 10) >= ids_needed - 1) return true;
  }
  return false;
}

void check_subordinate_ids() {
  const auto id = std::to_string(::getuid());
  const passwd* entry = ::getpwuid(::getuid());
  const std::string user = entry ? entry->pw_name : id;
  if (has_range("/etc/subuid", user, id) && has_range("/etc/subgid", user, id)) return;
  throw Error(ErrorCode::host_lacks,
              fmt::format("user {} has no range of subordinate ids, which the files of an image need", user),
              fmt::format("sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {}", user));
}

}  // namespace

std::vector<std::string> in_namespaces(std::vector<std::string> argv) {
  need_program("unshare", "util-linux");
  std::vector<std::string> command = {"unshare", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc"};
  if (::geteuid() != 0) {
    need_program("newuidmap", "uidmap");
    check_subordinate_ids();
    command.insert(command.end(), {"--user", "--map-root-user", "--map-auto"});
  }
  command.push_back("--");
  command.insert(command.end(), std::make_move_iterator(argv.begin()), std::make_move_iterator(argv.end()));
  return command;
}

}  // namespace agentvm
