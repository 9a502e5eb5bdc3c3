#include "sync/salvage/copied_repository.hpp"

#include <algorithm>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sync/refs.hpp"
#include "sync/salvage/survey.hpp"
#include "sync/seed/tree_writer.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::sync {
namespace {

constexpr std::size_t loose_ref_limit_bytes = 1024;
constexpr std::size_t packed_refs_limit_bytes = 64u << 20;
constexpr std::size_t exclude_limit_bytes = 1u << 20;
constexpr rlim_t process_seconds = 600;  // of processor time, per git

bool is_hex(std::string_view text, std::size_t length) {
  return text.size() == length &&
         std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

/// "xx/38 hex" or "pack/pack-40 hex.pack", below .git/objects.
bool is_object_file(std::string_view path) {
  const auto slash = path.find('/');
  if (slash == std::string_view::npos) return false;
  const auto folder = path.substr(0, slash), name = path.substr(slash + 1);
  if (folder == "pack")
    return name.starts_with("pack-") && name.ends_with(".pack") && is_hex(name.substr(5, name.size() - 10), 40);
  return is_hex(folder, 2) && is_hex(name, 38);
}

UniqueFd open_beneath(int root, const std::string& path, std::uint64_t flags) {
  open_how how{};
  how.flags = flags | O_NOFOLLOW | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;
  return UniqueFd(static_cast<int>(::syscall(SYS_openat2, root, path.c_str(), &how, sizeof how)));
}

std::string trimmed(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

}  // namespace

std::optional<std::string> read_beneath(int root, const std::string& path, std::size_t limit_bytes) {
  const auto fd = open_beneath(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  struct stat status {};
  if (!fd || ::fstat(fd.get(), &status) < 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  return read_to_end(fd.get(), limit_bytes, Deadline::never());
}

UniqueFd open_folder_beneath(int root, const std::string& path) {
  return open_beneath(root, path, O_RDONLY | O_DIRECTORY);
}

std::string read_head(int root, const std::string& path) {
  return trimmed(read_beneath(root, path, loose_ref_limit_bytes).value_or(""));
}

CopiedRepository::CopiedRepository(int workspace, const fs::path& folder, const SalvageLimits& limits,
                                   Deadline deadline)
    : folder_(folder), limits_(limits), git_(folder, HostGit::Config::none) {
  ensure_private_dir(folder_);
  git_.output({"init", "--quiet", "--bare", "--template=", "--initial-branch=main"}, deadline);
  copy_objects(workspace, deadline);
  index_packs(deadline);
  if (const auto exclude = read_beneath(workspace, ".git/info/exclude", exclude_limit_bytes)) {
    ensure_private_dir(folder_ / "info");
    write_file_atomic(folder_ / "info/exclude", *exclude);
  }
  copy_branches(workspace, deadline);
}

ProcessSpec CopiedRepository::bounded(std::vector<std::string> args) const {
  auto spec = git_.spec(std::move(args));
  spec.die_with_parent = true;
  spec.in_child = [bytes = static_cast<rlim_t>(limits_.process_bytes)] {
    const rlimit memory{bytes, bytes}, time{process_seconds, process_seconds}, core{0, 0};
    if (::setrlimit(RLIMIT_DATA, &memory) < 0 || ::setrlimit(RLIMIT_CPU, &time) < 0 ||
        ::setrlimit(RLIMIT_CORE, &core) < 0)
      return errno;
    return 0;
  };
  return spec;
}

RunResult CopiedRepository::run(const std::vector<std::string>& args, Deadline deadline, std::string_view input) const {
  constexpr std::size_t output_limit_bytes = 512u << 20;  // names of every file of a large tree
  return agentvm::run(bounded(args), deadline, input, output_limit_bytes);
}

std::optional<std::string> CopiedRepository::ask(const std::vector<std::string>& args, Deadline deadline,
                                                 std::string_view input) const {
  auto result = run(args, deadline, input);
  if (!result.status.ok()) return std::nullopt;
  return trimmed(std::move(result.out));
}

void CopiedRepository::copy_objects(int workspace, Deadline deadline) {
  TreeCopier copier(duplicate(workspace), open_file(folder_, O_RDONLY | O_DIRECTORY));
  std::uint64_t unreadable = 0;
  survey(workspace, ".git/objects", limits_.entries, deadline, [&](const SurveyEntry& entry) {
    const auto path = std::string_view(entry.path).substr(std::string_view(".git/objects/").size());
    if (S_ISDIR(entry.mode)) return path == "pack" || is_hex(path, 2);
    if (!S_ISREG(entry.mode) || !is_object_file(path)) return false;
    const auto target = "objects/" + std::string(path);
    const auto bytes = copier.copy_as(entry.path, target, limits_.bytes - copied_bytes_);
    copied_bytes_ += bytes.value_or(0);
    if (bytes && *bytes != 0) return false;
    // git does not wait for loose objects to reach the disk: after a crash some are empty. An empty one is worse than
    // none: it counts as there, and ends the fetch of everything.
    if (bytes) copier.remove(target);
    ++unreadable;
    return false;
  });
  if (unreadable != 0) warnings_.push_back(fmt::format("{} objects could not be read", unreadable));
}

void CopiedRepository::index_packs(Deadline deadline) {
  std::error_code problem;
  std::vector<fs::path> broken;
  for (const auto& entry : fs::directory_iterator(folder_ / "objects/pack", problem))
    if (!run({"index-pack", entry.path().string()}, deadline).status.ok()) broken.push_back(entry.path());
  for (const auto& pack : broken) {
    fs::remove(pack, problem);
    warnings_.push_back(fmt::format("{} is damaged and was left out", pack.filename().string()));
  }
}

void CopiedRepository::copy_branches(int workspace, Deadline deadline) {
  const auto take = [this](const std::string& name, const std::string& value) {
    if (name.starts_with(branch_prefix) && is_oid(value) && !refname_problem(name)) branches_[name] = value;
  };
  if (const auto packed = read_beneath(workspace, ".git/packed-refs", packed_refs_limit_bytes))
    for (const auto& line : split_lines(*packed))
      if (line.size() > oid_hex_length && line[oid_hex_length] == ' ')
        take(line.substr(oid_hex_length + 1), line.substr(0, oid_hex_length));
  survey(workspace, ".git/refs/heads", limits_.entries, deadline, [&](const SurveyEntry& entry) {
    if (S_ISREG(entry.mode))
      if (const auto value = read_beneath(workspace, entry.path, loose_ref_limit_bytes))
        take(entry.path.substr(std::string_view(".git/").size()), trimmed(*value));
    return true;
  });
  drop_broken_branches(deadline);
  write_branches();
  const auto head = read_head(workspace, ".git/HEAD");
  if (head.starts_with("ref: refs/heads/") && !refname_problem(head.substr(5)))
    write_file_atomic(folder_ / "HEAD", head + "\n");
}

std::optional<std::string> CopiedRepository::commit_of(const std::string& head, Deadline deadline) const {
  auto commit = head;
  if (head.starts_with("ref: ")) {
    const auto found = branches_.find(head.substr(5));
    commit = found == branches_.end() ? "" : found->second;
  }
  if (!is_oid(commit) || !is_whole({commit}, deadline)) return std::nullopt;
  return commit;
}

bool CopiedRepository::is_whole(const std::vector<std::string>& commits, Deadline deadline) const {
  std::string input;
  for (const auto& commit : commits) input += commit + "^{commit}\n";  // no tag, no tree
  return run({"rev-list", "--objects", "--quiet", "--stdin"}, deadline, input).status.ok();
}

/// One branch of which something is missing would end the fetch of all.
void CopiedRepository::drop_broken_branches(Deadline deadline) {
  std::vector<std::string> commits;
  for (const auto& [name, commit] : branches_) commits.push_back(commit);
  if (commits.empty() || is_whole(commits, deadline)) return;
  const auto broken = std::erase_if(
      branches_, [&](const auto& branch) { return deadline.expired() || !is_whole({branch.second}, deadline); });
  if (deadline.expired()) throw Error(ErrorCode::timed_out, "looking through the commits did not finish in time");
  warnings_.push_back(fmt::format("{} branches are damaged and were left out", broken));
}

void CopiedRepository::write_branches() const {
  std::string text = "# pack-refs with: sorted \n";
  for (const auto& [name, commit] : branches_) text += fmt::format("{} {}\n", commit, name);
  write_file_atomic(folder_ / "packed-refs", text);
}

void CopiedRepository::add_branch(const std::string& branch, const std::string& commit) {
  branches_[std::string(branch_prefix) + branch] = commit;
  write_branches();
}

}  // namespace agentvm::sync
