#include "vmm/virtiofs/tree_growth.hpp"

#include <cstdio>
#include <set>
#include <sstream>

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/virtiofs/mapped_process.hpp"

namespace agentvm {
namespace {

constexpr std::uint64_t block_bytes = 512;  // of st_blocks and of find's %b
constexpr milliseconds grace{5'000};

// A file with several names is counted once. What find cannot see (it vanished) makes status 1; 137 is the killed one.
constexpr const char* script =
    "{ timeout -s KILL \"$3\" find \"$1\" -xdev -newerct \"@$2\" -printf '%b %n %y\\n' 2>/dev/null; echo \"end $?\"; } "
    "|"
    " awk '$1 == \"end\" { code = $2; next } { blocks += $3 == \"d\" ? $1 : $1 / ($2 ? $2 : 1); ++count }"
    " END { printf \"%.0f %.0f %d\", blocks, count, code }'";

/// Adds the regular files without a name that a process holds open, of the folder's file system: a daemon maps the
/// guest's memory, too. A process in a namespace of ours may be looked at from within alone.
void add_removed_of(int server, dev_t device, std::int64_t since, std::set<std::uint64_t>& seen, TreeGrowth& growth) {
  ProcessSpec spec;
  if (::geteuid() != 0) spec.argv = {"nsenter", "--user", "--target", std::to_string(server)};
  for (const auto& word :
       {std::string("find"), std::string("-L"), fmt::format("/proc/{}/fd", server), std::string("-maxdepth"),
        std::string("1"), std::string("-type"), std::string("f"), std::string("-links"), std::string("0"),
        std::string("-newerct"), fmt::format("@{}", since), std::string("-printf"), std::string("%D %i %b\\n")})
    spec.argv.push_back(word);
  spec.cwd.assign(1, '/');
  const auto result = run(std::move(spec), Deadline::after(grace));
  std::istringstream lines(result.out);
  std::uint64_t where = 0, inode = 0, blocks = 0;
  while (lines >> where >> inode >> blocks) {
    if (where != device || !seen.insert(inode).second) continue;
    growth.bytes += blocks * block_bytes;
    ++growth.inodes;
  }
}

/// Of the daemon itself, and of the sandboxed process that serves.
void add_removed(int server, dev_t device, std::int64_t since, TreeGrowth& growth) {
  std::set<std::uint64_t> seen;
  add_removed_of(server, device, since, seen, growth);
  for (const int child : child_processes(server)) add_removed_of(child, device, since, seen, growth);
}

}  // namespace

TreeGrowth tree_growth(const std::filesystem::path& folder, std::int64_t since, int server, milliseconds limit) {
  TreeGrowth growth;
  struct stat top {};
  if (::stat(folder.c_str(), &top) < 0) return growth;
  ProcessSpec spec;
  spec.argv = {"sh",
               "-c",
               script,
               "sh",
               folder.string(),
               std::to_string(since),
               fmt::format("{}.{:03}", limit.count() / 1000, limit.count() % 1000)};
  spec.cwd.assign(1, '/');
  const auto deadline = Deadline::after(limit + grace);
  const auto result =
      ::geteuid() == 0 ? run(std::move(spec), deadline) : run_mapped(std::move(spec), host_id_map(), deadline);
  std::uint64_t blocks = 0;
  int code = 1;
  if (std::sscanf(result.out.c_str(), "%lu %lu %d", &blocks, &growth.inodes, &code) != 3)
    throw Error(ErrorCode::operation_failed, fmt::format("{} cannot be measured", folder.string()));
  growth.bytes = blocks * block_bytes;
  constexpr int killed = 128 + 9;
  growth.complete = code != killed;
  if (server > 0) add_removed(server, top.st_dev, since, growth);
  return growth;
}

}  // namespace agentvm
