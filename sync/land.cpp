#include "sync/land.hpp"

#include <cerrno>
#include <functional>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/files.hpp"
#include "vmm/base/process.hpp"

namespace agentvm::sync {
namespace {

constexpr std::string_view keep_mark = "agentvm-sync ";

/// Links or copies `from` to `to` without ever replacing anything; the result is synced. An existing `to` is success:
/// the name is the digest.
void place_file(const fs::path& from, const fs::path& to) {
  struct stat status {};
  if (::lstat(to.c_str(), &status) == 0) return;
  const auto source = open_file(from, O_RDONLY | O_NOFOLLOW);
  check_errno(::fsync(source.get()), from.string());
  if (::link(from.c_str(), to.c_str()) == 0 || errno == EEXIST) return;
  const fs::path temporary =
      to.parent_path() / fmt::format("tmp_agentvm_{}", random_hex(6));  // git gc removes old tmp_* files
  try {
    const auto target = open_file(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0444);
    for (;;) {
      const ssize_t count = ::copy_file_range(source.get(), nullptr, target.get(), nullptr, 1u << 30, 0);
      if (count == 0) break;
      if (count < 0 && errno == EINTR) continue;
      if (count < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP || errno == ENOSYS)) {
        char buffer[65536];
        for (ssize_t got; (got = ::read(source.get(), buffer, sizeof buffer)) != 0;) {
          if (got < 0 && errno == EINTR) continue;
          check_errno(static_cast<int>(got), from.string());
          write_all(target.get(), {buffer, static_cast<std::size_t>(got)}, Deadline::never());
        }
        break;
      }
      if (count < 0) throw_errno(temporary.string());
    }
    check_errno(::fsync(target.get()), temporary.string());
    if (::link(temporary.c_str(), to.c_str()) < 0 && errno != EEXIST)
      check_errno(::rename(temporary.c_str(), to.c_str()), to.string());
    ::unlink(temporary.c_str());
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
}

/// .keep files of syncs that were killed: ours by their first words, dead by their process.
void sweep_keeps(const fs::path& pack_dir) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(pack_dir, ignored)) {
    if (entry.path().extension() != ".keep") continue;
    const auto text = read_tail(entry.path(), 200);
    if (!text.starts_with(keep_mark)) continue;
    int pid = 0;
    unsigned long long ticks = 0;
    if (std::sscanf(text.c_str() + keep_mark.size(), "%d %llu", &pid, &ticks) == 2 && process_start_ticks(pid) == ticks)
      continue;
    fs::remove(entry.path(), ignored);
  }
}

std::string branch_of(const std::string& sandbox, const std::string& ref) {
  return ref.substr(mirror_ref(sandbox, "").size());
}

void transact(const HostGit& git, const std::string& commands, Deadline deadline) {
  if (commands.empty()) return;
  git.output(
      {"-c", "core.logAllRefUpdates=false", "update-ref", "--no-deref", "--stdin", "-z"}, deadline,
      "start" + std::string(1, '\0') + commands + "prepare" + std::string(1, '\0') + "commit" + std::string(1, '\0'));
}

std::string update_command(const std::string& ref, const std::string& to, const std::string& from) {
  const std::string zero(1, '\0');
  return "update " + ref + zero + to + zero + (from.empty() ? std::string(oid_hex_length, '0') : from) + zero;
}

}  // namespace

LandingPlan plan_landing(const std::string& sandbox, const std::map<std::string, std::string>& mirrored,
                         const std::map<std::string, std::string>& guest_branches, const std::string& stamp,
                         const std::function<bool(const std::string&, const std::string&)>& is_ancestor) {
  LandingPlan plan;
  for (const auto& [branch, tip] : guest_branches) {
    const auto ref = mirror_ref(sandbox, branch);
    const auto known = mirrored.find(ref);
    if (known == mirrored.end())
      plan.changes.push_back({branch, ref, "", tip, ""});
    else if (known->second != tip)
      plan.changes.push_back(
          {branch, ref, known->second, tip, is_ancestor(known->second, tip) ? "" : old_ref(sandbox, stamp, branch)});
  }
  for (const auto& [ref, tip] : mirrored) {
    const auto branch = branch_of(sandbox, ref);
    if (is_reserved_branch(branch) || guest_branches.contains(branch)) continue;
    bool in_the_way = false;
    for (const auto& change : plan.changes)
      in_the_way = in_the_way || (change.old_tip.empty() &&
                                  (change.branch.starts_with(branch + "/") || branch.starts_with(change.branch + "/")));
    if (in_the_way)
      plan.displaced.emplace_back(ref, tip);
    else
      plan.gone.push_back(branch);
  }
  return plan;
}

LandedPack::LandedPack(const HostRepository& host, const fs::path& quarantine_objects, const std::string& name) {
  const auto pack_dir = host.common_dir / "objects/pack";
  std::error_code ignored;
  fs::create_directory(pack_dir, ignored);
  sweep_keeps(pack_dir);
  const auto stem = "pack-" + name;
  keep_ = pack_dir / (stem + ".keep");
  UniqueFd keep(::open(keep_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (keep)
    write_all(keep.get(), fmt::format("{}{} {}\n", keep_mark, ::getpid(), process_start_ticks(::getpid())),
              Deadline::never());
  else if (errno == EEXIST)
    keep_.clear();  // somebody keeps this very pack already
  else
    throw_errno("writing into " + pack_dir.string());
  try {
    place_file(quarantine_objects / "pack" / (stem + ".pack"), pack_dir / (stem + ".pack"));
    place_file(quarantine_objects / "pack" / (stem + ".idx"), pack_dir / (stem + ".idx"));
    sync_dir(pack_dir);
  } catch (...) {
    if (!keep_.empty()) ::unlink(keep_.c_str());
    throw;
  }
}

LandedPack::~LandedPack() {
  if (!keep_.empty()) ::unlink(keep_.c_str());
}

void update_refs(const HostGit& git, const std::string& sandbox, const LandingPlan& plan, const std::string& stamp,
                 Deadline deadline) {
  std::string keep, free, move;
  const std::string zero(1, '\0');
  for (const auto& [ref, tip] : plan.displaced) {
    keep += update_command(old_ref(sandbox, stamp, branch_of(sandbox, ref)), tip, "");
    free += "delete " + ref + zero + tip + zero;
  }
  for (const auto& change : plan.changes) {
    if (!change.kept_as.empty()) keep += update_command(change.kept_as, change.old_tip, "");
    move += update_command(change.ref, change.new_tip, change.old_tip);
  }
  transact(git, keep, deadline);
  transact(git, free, deadline);
  transact(git, move, deadline);
}

}  // namespace agentvm::sync
