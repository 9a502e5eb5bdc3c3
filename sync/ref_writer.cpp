#include "sync/ref_writer.hpp"

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sync/ref_locks.hpp"
#include "sync/refs.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::sync {
namespace {

constexpr std::size_t packed_limit_bytes = 1u << 30;

/// Where git would lock and replace the file: git follows a symlink there.
fs::path packed_file(const HostRepository& host) {
  std::error_code problem;
  const auto path = host.common_dir / "packed-refs";
  if (!fs::is_symlink(path, problem)) return "packed-refs";
  return fs::weakly_canonical(path);
}

[[noreturn]] void moved_meanwhile(const RefEdit& edit) {
  throw Error(ErrorCode::operation_failed, fmt::format("{} was changed by somebody else meanwhile", edit.ref),
              "agentvm sync");
}

void verify(const std::vector<RefEdit>& edits, const std::map<std::string, std::string>& present) {
  auto after = present;
  for (const auto& edit : edits) {
    const auto found = present.find(edit.ref);
    if ((found == present.end() ? "" : found->second) != edit.old_tip) moved_meanwhile(edit);
    if (edit.new_tip.empty()) after.erase(edit.ref);
  }
  for (const auto& edit : edits) {
    if (edit.new_tip.empty()) continue;
    const auto below = after.lower_bound(edit.ref + "/");
    bool blocked = below != after.end() && below->first.starts_with(edit.ref + "/");
    for (auto slash = edit.ref.find('/'); slash != std::string::npos; slash = edit.ref.find('/', slash + 1))
      blocked = blocked || after.contains(edit.ref.substr(0, slash));
    if (blocked) moved_meanwhile(edit);
    after[edit.ref] = edit.new_tip;
  }
}

/// Folders without references in them: git leaves them behind, and so may we.
void remove_empty_folders(const fs::path& path) {
  std::error_code problem;
  std::vector<fs::path> folders{path};
  for (fs::recursive_directory_iterator entry(path, problem), end; !problem && entry != end; entry.increment(problem))
    if (entry->is_directory(problem)) folders.push_back(entry->path());
  for (auto folder = folders.rbegin(); folder != folders.rend(); ++folder) ::rmdir(folder->c_str());
}

void replace(const fs::path& draft, const fs::path& target) {
  if (::rename(draft.c_str(), target.c_str()) == 0) return;
  if (errno == EISDIR || errno == ENOTEMPTY || errno == EEXIST) {
    remove_empty_folders(target);
    if (::rename(draft.c_str(), target.c_str()) == 0) return;
  }
  throw_errno("writing " + target.string());
}

/// From packed-refs first: else the old packed value would appear again where the loose one was.
void remove_references(const HostRepository& host, RefLocks& locks, const std::set<std::string>& refs) {
  const auto packed = host.common_dir / packed_file(host);
  if (const auto text = read_file_if_exists(packed, packed_limit_bytes))
    if (const auto rest = packed_without(*text, refs)) replace(locks.draft(*rest), packed);
  for (const auto& ref : refs)
    if (::unlink((host.common_dir / ref).c_str()) < 0 && errno != ENOENT &&
        errno != EISDIR)  // a folder of others, or empty
      throw_errno("removing " + ref);
}

/// For what is not kept in files, or where files have no second name: git does it, and a kill leaves git's locks.
void apply_by_git(const HostGit& git, const std::vector<RefEdit>& edits, Deadline deadline) {
  const std::string zero(1, '\0'), none(oid_hex_length, '0');
  auto text = "start" + zero;
  for (const auto& edit : edits)
    text += edit.new_tip.empty() ? "delete " + edit.ref + zero + edit.old_tip + zero
                                 : "update " + edit.ref + zero + edit.new_tip + zero +
                                       (edit.old_tip.empty() ? none : edit.old_tip) + zero;
  git.output({"-c", "core.logAllRefUpdates=false", "update-ref", "--no-deref", "--stdin", "-z"}, deadline,
             text + "prepare" + zero + "commit" + zero);
}

void check_names(const std::vector<RefEdit>& edits) {
  for (const auto& edit : edits)
    if (!edit.ref.starts_with(own_prefix) || refname_problem(edit.ref) ||
        (edit.new_tip.empty() && edit.old_tip.empty()) || (!edit.new_tip.empty() && !is_oid(edit.new_tip)))
      throw Error(ErrorCode::operation_failed, fmt::format("{} is not a reference to write", edit.ref));
}

}  // namespace

std::optional<std::string> packed_without(const std::string& packed, const std::set<std::string>& refs) {
  std::string rest;
  bool dropping = false, dropped = false;
  for (std::size_t start = 0; start < packed.size();) {
    const auto end = std::min(packed.find('\n', start), packed.size() - 1) + 1;
    const std::string_view line(packed.data() + start, end - start);
    // "<id> <name>", for a tag followed by "^<id>", which belongs to it; comments begin with '#'.
    if (line.front() != '^') {
      const auto space = line.find(' ');
      const auto name = line.substr(std::min(space, line.size() - 1) + 1);
      dropping = line.front() != '#' && refs.contains(std::string(name.substr(0, name.find('\n'))));
      dropped = dropped || dropping;
    }
    if (!dropping) rest += line;
    start = end;
  }
  return dropped ? std::optional(rest) : std::nullopt;
}

RefWriter::RefWriter(const HostRepository& host, const HostGit& git, Deadline deadline)
    : host_(host), git_(git), deadline_(deadline) {
  if (host.ref_format != "files") return;
  guard_ = lock_writers(host.common_dir, deadline);
  remove_dead_locks(host.common_dir);
}

void RefWriter::apply(std::vector<RefEdit> edits) {
  if (edits.empty()) return;
  check_names(edits);
  if (!guard_) return apply_by_git(git_, edits, deadline_);
  std::sort(edits.begin(), edits.end(), [](const auto& a, const auto& b) { return a.ref < b.ref; });
  std::vector<fs::path> files;
  std::set<std::string> removed;
  for (const auto& edit : edits) {
    files.emplace_back(edit.ref);
    if (edit.new_tip.empty()) removed.insert(edit.ref);
  }
  if (!removed.empty()) files.push_back(packed_file(host_));
  {
    RefLocks locks(host_.common_dir, files);
    if (!locks.take(deadline_)) return apply_by_git(git_, edits, deadline_);
    verify(edits, list_refs(git_, std::string(own_prefix), deadline_));
    if (!removed.empty()) remove_references(host_, locks, removed);
    for (const auto& edit : edits)
      if (!edit.new_tip.empty()) replace(locks.draft(edit.new_tip + "\n"), host_.common_dir / edit.ref);
  }
  for (const auto& ref : removed)
    for (auto folder = (host_.common_dir / ref).parent_path();
         folder.string().size() > (host_.common_dir / own_prefix).string().size() && ::rmdir(folder.c_str()) == 0;)
      folder = folder.parent_path();
}

void recover_references(const HostRepository& host, Deadline deadline) {
  std::error_code problem;
  if (host.ref_format != "files" || !fs::exists(host.common_dir / "agentvm/locks", problem)) return;
  const auto guard = lock_writers(host.common_dir, deadline);
  remove_dead_locks(host.common_dir);
}

}  // namespace agentvm::sync
