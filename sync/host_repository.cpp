#include "sync/host_repository.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "sync/refs.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::sync {
namespace {

constexpr std::size_t packed_refs_limit = 256u << 20;
constexpr int alternates_depth_limit = 5;  // git's own

void add_object_dirs(const fs::path& objects, int depth, std::vector<fs::path>& out) {
  std::error_code ignored;
  const auto real = fs::canonical(objects, ignored);
  if (ignored || std::find(out.begin(), out.end(), real) != out.end() || depth > alternates_depth_limit) return;
  out.push_back(real);
  const auto list = read_file_if_exists(real / "info/alternates");
  if (!list) return;
  for (const auto& line : split_lines(*list))
    if (!line.empty() && line[0] != '#') add_object_dirs(line[0] == '/' ? fs::path(line) : real / line, depth + 1, out);
}

std::string operation_in_progress(const fs::path& git_dir) {
  std::error_code ignored;
  for (const auto& [file, name] : unfinished_operations)
    if (fs::exists(git_dir / file, ignored)) return name;
  return {};
}

/// Throws for what a sync cannot work with; returns how references are kept.
std::string refuse_unsuitable(const HostGit& git, const std::string& format, const std::string& shallow,
                              Deadline deadline) {
  const auto where = git.folder().string();
  if (format != "sha1")
    throw Error(
        ErrorCode::operation_failed,
        fmt::format("{} uses {} object names; agentvm needs SHA-1 ones, which libgit2 can read", where, format));
  if (shallow == "true")
    throw Error(
        ErrorCode::operation_failed,
        fmt::format("{} is a shallow clone: what comes back from a sandbox could not be proven complete", where),
        fmt::format("git -C {} fetch --unshallow", where));
  std::string ref_format = "files";
  const auto extensions = git.run({"config", "--get-regexp", "^extensions\\.(partialclone|refstorage)$"}, deadline).out;
  for (const auto& line : split_lines(extensions)) {
    const auto value = line.substr(std::min(line.find(' '), line.size() - 1) + 1);
    if (line.starts_with("extensions.refstorage "))
      ref_format = value;
    else if (line.starts_with("extensions.partialclone ") && !value.empty())
      throw Error(ErrorCode::operation_failed, fmt::format("{} is a partial clone: objects are missing from it", where),
                  fmt::format("git clone --no-filter $(git -C {} remote get-url {}) FULL_CLONE", where, value));
  }
  return ref_format;
}

/// " commit ID   refs/..." or "*tag ID commit ID refs/...": the star is the checked-out branch, whose name comes back.
std::string read_refs(const HostGit& git, std::vector<HostRef>& refs, Deadline deadline) {
  std::string head;
  for (const auto& line :
       split_lines(git.output({"for-each-ref", "--sort=-committerdate",
                               "--format=%(HEAD)%(objecttype) %(objectname) %(*objecttype) %(*objectname) %(refname)"},
                              deadline))) {
    std::vector<std::string> words;
    for (std::size_t start = 1; start <= line.size();) {
      const auto end = std::min(line.find(' ', start), line.size());
      words.push_back(line.substr(start, end - start));
      start = end + 1;
    }
    if (words.size() < 5) continue;
    const bool is_commit = words[0] == "commit", leads_to_one = words[2] == "commit";
    refs.push_back({words[4], words[1], is_commit ? words[1] : leads_to_one ? words[3] : ""});
    if (line[0] == '*') head = words[4];
  }
  return head;
}

/// git takes a branch whose file is cut or garbage for one that has no commit yet, with a warning; a sandbox would come
/// up without the history and look whole.
void refuse_damaged_head(const HostRepository& repository, const fs::path& path) {
  if (!repository.head.empty()) return;
  const auto ref = std::string(branch_prefix) + repository.head_branch;
  std::error_code none;  // a folder of that name is what branches below it left
  if (!repository.head_branch.empty() && !fs::is_regular_file(repository.common_dir / ref, none)) {
    const auto packed = read_file_if_exists(repository.common_dir / "packed-refs", packed_refs_limit).value_or("");
    if (packed.find(" " + ref + "\n") == std::string::npos) return;  // it has none
  }
  throw Error(ErrorCode::operation_failed,
              fmt::format("{} of {} names no commit that is there: the repository is damaged",
                          repository.head_branch.empty() ? "HEAD" : ref, path.string()),
              fmt::format("git -C {} fsck", path.string()));
}

/// What a work tree is asked, in one go; nothing where git has no answer to all of it.
std::vector<std::string> ask(const HostGit& git, Deadline deadline) {
  auto result = git.run(
      {"rev-parse", "--is-bare-repository", "--is-inside-work-tree", "--show-object-format", "--is-shallow-repository",
       "--absolute-git-dir", "--path-format=absolute", "--git-common-dir", "--show-toplevel"},
      deadline);
  return result.status.ok() ? split_lines(result.out) : std::vector<std::string>{};
}

}  // namespace

HostRepository open_object_store(const fs::path& git_dir, Deadline deadline) {
  std::error_code problem;
  if (!fs::is_directory(git_dir, problem))
    throw Error(ErrorCode::not_found, fmt::format("{} is not a folder", git_dir.string()));
  HostGit git(git_dir);
  const auto lines = split_lines(git.output({"rev-parse", "--absolute-git-dir", "--show-object-format",
                                             "--is-shallow-repository", "--path-format=absolute", "--git-common-dir"},
                                            deadline));
  // Asked from inside of it: git must not have found another repository further up.
  if (lines.size() != 4 || !fs::equivalent(lines[0], git_dir, problem))
    throw Error(ErrorCode::not_found, fmt::format("{} is not a git repository", git_dir.string()));
  HostRepository repository;
  repository.ref_format = refuse_unsuitable(git, lines[1], lines[2], deadline);
  repository.worktree = repository.git_dir = lines[0];
  repository.common_dir = lines[3];
  add_object_dirs(repository.common_dir / "objects", 0, repository.object_dirs);
  if (repository.object_dirs.empty())
    throw Error(ErrorCode::operation_failed, fmt::format("the objects of {} cannot be read", git_dir.string()));
  read_refs(git, repository.refs, deadline);
  return repository;
}

HostRepository open_host_repository(const fs::path& path, Deadline deadline) {
  std::error_code problem;
  if (!fs::is_directory(path, problem))
    throw Error(ErrorCode::not_found, fmt::format("{} is not a folder", path.string()));
  HostGit git(path);
  auto lines = ask(git, deadline);
  if (lines.empty())  // a bare one, or none: which, and in git's words
    lines = split_lines(git.output({"rev-parse", "--is-bare-repository", "--is-inside-work-tree"}, deadline));
  if (lines.size() != 7 && lines.size() != 2)
    throw Error(ErrorCode::operation_failed, fmt::format("git does not say what {} is", path.string()));
  if (lines[0] == "true")
    throw Error(ErrorCode::operation_failed,
                fmt::format("{} is a bare repository; a sandbox needs a work tree", path.string()),
                fmt::format("git clone {} WORKTREE", path.string()));
  if (lines[1] != "true" || lines.size() != 7)
    throw Error(ErrorCode::operation_failed,
                fmt::format("{} is inside a repository's own folder, not in its work tree", path.string()));
  HostRepository repository;
  repository.ref_format = refuse_unsuitable(git, lines[2], lines[3], deadline);
  repository.git_dir = lines[4];
  repository.common_dir = lines[5];
  repository.worktree = lines[6];
  add_object_dirs(repository.common_dir / "objects", 0, repository.object_dirs);
  if (repository.object_dirs.empty())
    throw Error(ErrorCode::operation_failed, fmt::format("the objects of {} cannot be read", path.string()),
                fmt::format("ls -ld {}", (repository.common_dir / "objects").string()));
  if (const auto head = read_refs(git, repository.refs, deadline); head.starts_with(branch_prefix)) {
    repository.head_branch = head.substr(branch_prefix.size());
    repository.head = std::find_if(repository.refs.begin(), repository.refs.end(), [&](const auto& ref) {
                        return ref.name == head;
                      })->commit;
  } else {  // detached, or a branch without a commit
    const auto unborn = git.try_line({"symbolic-ref", "-q", "HEAD"}, deadline);
    if (unborn && unborn->starts_with(branch_prefix)) repository.head_branch = unborn->substr(branch_prefix.size());
    repository.head = git.try_line({"rev-parse", "-q", "--verify", "HEAD^{commit}"}, deadline).value_or("");
    refuse_damaged_head(repository, path);
  }
  repository.operation = operation_in_progress(repository.git_dir);
  return repository;
}

std::map<std::string, std::string> refs_below(const std::vector<HostRef>& refs, std::string_view prefix) {
  std::map<std::string, std::string> found;
  for (const auto& ref : refs)
    if (ref.name.starts_with(prefix)) found.emplace(ref.name, ref.oid);
  return found;
}

std::map<std::string, std::string> list_refs(const HostGit& git, const std::string& prefix, Deadline deadline) {
  std::map<std::string, std::string> refs;
  for (const auto& line :
       split_lines(git.output({"for-each-ref", "--format=%(objectname) %(refname)", prefix}, deadline)))
    if (line.size() > 41) refs.emplace(line.substr(41), line.substr(0, 40));
  return refs;
}

}  // namespace agentvm::sync
