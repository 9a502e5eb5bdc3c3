#include "sync/land.hpp"

#include <cerrno>
#include <functional>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sync/ref_writer.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/process.hpp"

namespace agentvm::sync {
namespace {

constexpr std::string_view keep_mark = "agentvm-sync ";
constexpr std::string_view draft_prefix = "tmp_agentvm_";  // git gc removes old tmp_* files

fs::path draft_name(const fs::path& folder) {
  return folder / fmt::format("{}{}_{}_{}", draft_prefix, ::getpid(), process_start_ticks(::getpid()), random_hex(6));
}

/// "PID TICKS" or "PID_TICKS_...": of a process that is no more.
bool is_of_the_dead(const std::string& text) {
  int pid = 0;
  unsigned long long ticks = 0;
  if (std::sscanf(text.c_str(), "%d%*[ _]%llu", &pid, &ticks) != 2) return true;
  return process_start_ticks(pid) != ticks;
}

/// Links or copies `from` to `to` without ever replacing anything; the result is synced. An existing `to` is success:
/// the name is the digest.
void place_file(const fs::path& from, const fs::path& to) {
  struct stat status {};
  if (::lstat(to.c_str(), &status) == 0) return;
  const auto source = open_file(from, O_RDONLY | O_NOFOLLOW);
  check_errno(::fsync(source.get()), from.string());
  if (::link(from.c_str(), to.c_str()) == 0 || errno == EEXIST) return;
  const auto temporary = draft_name(to.parent_path());
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

}  // namespace

void sweep_keeps(const HostRepository& host) {
  const auto pack_dir = host.common_dir / "objects/pack";
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(pack_dir, ignored)) {
    const auto name = entry.path().filename().string();
    std::string owner;
    if (name.starts_with(draft_prefix)) {
      owner = name.substr(draft_prefix.size());
    } else if (name.ends_with(".keep")) {
      const auto text = read_tail(entry.path(), 200);
      if (!text.starts_with(keep_mark)) continue;
      owner = text.substr(keep_mark.size());
    } else {
      continue;
    }
    if (is_of_the_dead(owner)) ::unlink(entry.path().c_str());
  }
}

namespace {

std::string branch_of(const std::string& sandbox, const std::string& ref) {
  return ref.substr(mirror_ref(sandbox, "").size());
}

}  // namespace

LandingPlan plan_landing(const std::string& sandbox, const std::map<std::string, std::string>& mirrored,
                         const std::map<std::string, std::string>& guest_branches,
                         const std::map<std::string, std::string>& guest_tags, const std::string& stamp,
                         const std::function<bool(const std::string&, const std::string&)>& is_ancestor) {
  LandingPlan plan;
  const auto add = [&](const std::string& branch, const std::string& name, const std::string& tip) {
    const auto ref = mirror_ref(sandbox, name);
    const auto known = mirrored.find(ref);
    if (known == mirrored.end()) {
      plan.changes.push_back({branch, ref, "", tip, ""});
    } else if (known->second != tip) {
      // A tag does not move on: another object is another tag.
      const bool forward = !branch.empty() && is_ancestor(known->second, tip);
      plan.changes.push_back({branch, ref, known->second, tip, forward ? "" : old_ref(sandbox, stamp, name)});
    }
  };
  for (const auto& [branch, tip] : guest_branches) add(branch, branch, tip);
  for (const auto& [tag, tip] : guest_tags) add("", std::string(mirrored_tag_prefix) + tag, tip);
  for (const auto& [ref, tip] : mirrored) {
    const auto name = branch_of(sandbox, ref);
    const bool is_tag = name.starts_with(mirrored_tag_prefix);
    if ((is_reserved_branch(name) && !is_tag) || guest_branches.contains(name)) continue;
    bool in_the_way = false;
    for (const auto& change : plan.changes)
      in_the_way = in_the_way ||
                   (change.old_tip.empty() && (change.ref.starts_with(ref + "/") || ref.starts_with(change.ref + "/")));
    if (in_the_way)
      plan.displaced.emplace_back(ref, tip);
    else if (!is_tag)
      plan.gone.push_back(name);
  }
  return plan;
}

LandedPack::LandedPack(const HostRepository& host, const fs::path& quarantine_objects, const std::string& name) {
  const auto pack_dir = host.common_dir / "objects/pack";
  std::error_code ignored;
  fs::create_directory(pack_dir, ignored);
  sweep_keeps(host);
  const auto stem = "pack-" + name;
  keep_ = pack_dir / (stem + ".keep");
  // Whole or not at all: an empty one, left by a kill, could as well be the user's.
  const auto draft = draft_name(pack_dir);
  try {
    const auto file = open_file(draft, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    write_all(file.get(), fmt::format("{}{} {}\n", keep_mark, ::getpid(), process_start_ticks(::getpid())),
              Deadline::never());
    if (::link(draft.c_str(), keep_.c_str()) < 0) {
      if (errno != EEXIST) throw_errno("writing into " + pack_dir.string());
      keep_.clear();  // somebody keeps this very pack already
    }
  } catch (...) {
    ::unlink(draft.c_str());
    throw;
  }
  ::unlink(draft.c_str());
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

void update_refs(const HostRepository& host, const HostGit& git, const std::string& sandbox, const LandingPlan& plan,
                 const std::string& stamp, Deadline deadline) {
  std::vector<RefEdit> keep, free, move;
  for (const auto& [ref, tip] : plan.displaced) {
    keep.push_back({old_ref(sandbox, stamp, branch_of(sandbox, ref)), tip, ""});
    free.push_back({ref, "", tip});
  }
  for (const auto& change : plan.changes) {
    if (!change.kept_as.empty()) keep.push_back({change.kept_as, change.old_tip, ""});
    move.push_back({change.ref, change.new_tip, change.old_tip});
  }
  RefWriter writer(host, git, deadline);
  writer.apply(keep);
  writer.apply(free);
  writer.apply(move);
}

}  // namespace agentvm::sync
