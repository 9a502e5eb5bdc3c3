#include "vmm/virtiofs/tree_growth.hpp"

#include <cstdio>
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
    " awk '$1 == \"end\" { code = $2; next } { blocks += $3 == \"d\" ? $1 : $1 / $2; ++count }"
    " END { printf \"%.0f %.0f %d\", blocks, count, code }'";

/// Regular files without a name, of one process. A daemon in a namespace of ours may be looked at.
void add_removed_of(int server, std::int64_t since, TreeGrowth& growth) {
  std::error_code gone;
  for (const auto& entry : fs::directory_iterator(fmt::format("/proc/{}/fd", server), gone)) {
    struct stat status {};
    if (::stat(entry.path().c_str(), &status) < 0 || !S_ISREG(status.st_mode) || status.st_nlink > 0) continue;
    if (status.st_ctim.tv_sec < since) continue;
    growth.bytes += static_cast<std::uint64_t>(status.st_blocks) * block_bytes;
    ++growth.inodes;
  }
}

/// The daemon itself, and the sandboxed process that serves.
void add_removed(int server, std::int64_t since, TreeGrowth& growth) {
  add_removed_of(server, since, growth);
  std::istringstream children(
      read_file_if_exists(fmt::format("/proc/{0}/task/{0}/children", server), 4096).value_or(""));
  for (int child = 0; children >> child;) add_removed_of(child, since, growth);
}

}  // namespace

TreeGrowth tree_growth(const std::filesystem::path& folder, std::int64_t since, int server, milliseconds limit) {
  TreeGrowth growth;
  if (!fs::exists(folder)) return growth;
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
  if (server > 0) add_removed(server, since, growth);
  return growth;
}

}  // namespace agentvm
