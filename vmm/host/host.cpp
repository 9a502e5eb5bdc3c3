#include "vmm/host.hpp"

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>

#include <fmt/format.h>
#include <sched.h>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"

namespace agentvm {
namespace {

constexpr std::uint64_t unlimited = std::numeric_limits<std::uint64_t>::max();

/// The number at the start of `text`; nothing for "max" and other words.
std::optional<std::uint64_t> leading_number(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  std::uint64_t value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc()) return std::nullopt;
  return value;
}

/// The number after `label` at the start of a line, as in /proc/meminfo and memory.stat.
std::optional<std::uint64_t> line_number(std::string_view text, std::string_view label) {
  for (std::size_t start = 0; start < text.size();) {
    const auto end = std::min(text.find('\n', start), text.size());
    const auto line = text.substr(start, end - start);
    if (line.starts_with(label)) return leading_number(line.substr(label.size()));
    start = end + 1;
  }
  return std::nullopt;
}

std::string read_quietly(const fs::path& path) {
  try {
    return read_file_if_exists(path, 1u << 16).value_or("");
  } catch (const Error&) {
    return "";  // a control group file that we may not read limits nothing that we could know
  }
}

struct Limits {
  std::uint64_t memory_bytes = unlimited;
  std::uint64_t available_bytes = unlimited;
  std::uint64_t cpus = unlimited;

  void memory(std::uint64_t limit, std::uint64_t used, std::uint64_t reclaimable) {
    used -= std::min(used, reclaimable);
    memory_bytes = std::min(memory_bytes, limit);
    available_bytes = std::min(available_bytes, limit - std::min(limit, used));
  }
  void quota(std::uint64_t quota_us, std::uint64_t period_us) {
    if (period_us > 0) cpus = std::min(cpus, std::max<std::uint64_t>(1, (quota_us + period_us - 1) / period_us));
  }
};

/// The files of one group; `unified` is version 2. A limit of version 1 that means "none" is larger than any memory and
/// harmless.
void apply_group(const fs::path& folder, bool unified, Limits& limits) {
  const auto limit = leading_number(read_quietly(folder / (unified ? "memory.max" : "memory.limit_in_bytes")));
  if (limit) {
    const auto used =
        leading_number(read_quietly(folder / (unified ? "memory.current" : "memory.usage_in_bytes"))).value_or(0);
    const auto cached =
        line_number(read_quietly(folder / "memory.stat"), unified ? "inactive_file " : "total_inactive_file ")
            .value_or(0);
    limits.memory(*limit, used, cached);
  }
  const auto quota_text = read_quietly(folder / (unified ? "cpu.max" : "cpu.cfs_quota_us"));
  const auto quota = quota_text.starts_with('-') ? std::nullopt : leading_number(quota_text);
  if (!quota) return;
  const auto space = quota_text.find(' ');
  const auto period =
      unified ? (space == std::string::npos ? std::nullopt : leading_number(std::string_view(quota_text).substr(space)))
              : leading_number(read_quietly(folder / "cpu.cfs_period_us"));
  limits.quota(*quota, period.value_or(0));
}

/// Walks from our group up to the root of its hierarchy: the tightest limit counts.
void apply_groups_upwards(const fs::path& mount, fs::path group, bool unified, Limits& limits) {
  constexpr int deepest = 64;
  for (int level = 0; level < deepest; ++level) {
    apply_group(mount / group.relative_path(), unified, limits);
    if (!group.has_relative_path()) break;
    group = group.parent_path();
  }
}

Limits control_group_limits(const fs::path& root) {
  Limits limits;
  const auto mount = root / "sys/fs/cgroup";
  const auto text = read_quietly(root / "proc/self/cgroup");
  for (std::size_t start = 0; start < text.size();) {
    const auto end = std::min(text.find('\n', start), text.size());
    const auto line = text.substr(start, end - start);
    start = end + 1;
    // "0::/user.slice/..." in version 2, "4:memory:/..." and "5:cpu,cpuacct:/..." in version 1.
    const auto first = line.find(':'), second = line.find(':', first == std::string::npos ? first : first + 1);
    if (second == std::string::npos) continue;
    const auto controllers = line.substr(first + 1, second - first - 1);
    const fs::path group = line.substr(second + 1);
    if (controllers.empty())
      apply_groups_upwards(mount, group, true, limits);
    else if (controllers == "memory")
      apply_groups_upwards(mount / "memory", group, false, limits);
    else if (controllers.find("cpu") != std::string::npos && controllers.find("cpuset") == std::string::npos)
      apply_groups_upwards(mount / "cpu", group, false, limits);
  }
  return limits;
}

unsigned usable_cpus() {
  // The kernel's mask may be wider than cpu_set_t: grow until it fits.
  for (int bits = CPU_SETSIZE; bits <= 1 << 20; bits *= 4) {
    cpu_set_t* set = CPU_ALLOC(static_cast<std::size_t>(bits));
    const auto size = CPU_ALLOC_SIZE(static_cast<std::size_t>(bits));
    const int result = ::sched_getaffinity(0, size, set);
    const int count = result == 0 ? CPU_COUNT_S(size, set) : 0;
    CPU_FREE(set);
    if (count > 0) return static_cast<unsigned>(count);
  }
  return 1;
}

}  // namespace

HostFacts read_host_facts(const fs::path& root) {
  const auto meminfo = read_quietly(root / "proc/meminfo");
  const auto total = line_number(meminfo, "MemTotal:"), available = line_number(meminfo, "MemAvailable:");
  if (!total || !available)
    throw Error(ErrorCode::host_lacks, fmt::format("{} tells no memory size", (root / "proc/meminfo").string()),
                "mount -t proc proc /proc");
  auto boot_id = read_quietly(root / "proc/sys/kernel/random/boot_id");
  while (!boot_id.empty() && boot_id.back() == '\n') boot_id.pop_back();
  if (boot_id.empty()) throw Error(ErrorCode::host_lacks, "the kernel tells no boot id", "mount -t proc proc /proc");
  const auto limits = control_group_limits(root);
  HostFacts facts;
  facts.memory_total = ByteSize(std::min(*total << 10, limits.memory_bytes));
  facts.memory_available = ByteSize(std::min({*available << 10, limits.available_bytes, facts.memory_total.bytes()}));
  facts.cpus = static_cast<unsigned>(std::min<std::uint64_t>(usable_cpus(), limits.cpus));
  facts.boot_id = boot_id;
  return facts;
}

}  // namespace agentvm
