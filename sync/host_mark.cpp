#include "sync/host_mark.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <sys/stat.h>

#include "sync/host_repository.hpp"
#include "sync/refs.hpp"

namespace agentvm::sync {
namespace {

constexpr std::size_t named_limit = 64;

std::string state_of(const fs::path& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return "-";
  return fmt::format("{}:{}:{}.{}:{}.{}", status.st_ino, status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec,
                     status.st_ctim.tv_sec, status.st_ctim.tv_nsec);
}

}  // namespace

std::unique_ptr<HostMark> HostMark::take(const fs::path& path, Deadline deadline) {
  std::error_code problem;
  if (!fs::is_directory(path, problem)) return nullptr;
  if (const auto git_dir = path / ".git"; fs::is_directory(git_dir, problem))  // most are, and git need not be asked
    return std::unique_ptr<HostMark>(new HostMark(path, git_dir, git_dir));
  const auto result = HostGit(path).run(
      {"rev-parse", "--path-format=absolute", "--show-toplevel", "--git-dir", "--git-common-dir"}, deadline);
  const auto lines = split_lines(result.out);
  if (!result.status.ok() || lines.size() != 3) return nullptr;
  return std::unique_ptr<HostMark>(new HostMark(lines[0], lines[1], lines[2]));
}

HostMark::HostMark(fs::path worktree, const fs::path& git_dir, fs::path common_dir)
    : worktree_(std::move(worktree)), common_dir_(std::move(common_dir)) {
  for (const char* name : {"HEAD", "index", "logs/HEAD", "index.lock", "HEAD.lock", "ORIG_HEAD.lock"})
    files_.push_back(git_dir / name);
  for (const auto& [name, operation] : unfinished_operations) files_.push_back(git_dir / name);
  for (const char* name : {"packed-refs", "reftable/tables.list"}) files_.push_back(common_dir_ / name);
  seen_ = look();
}

void HostMark::also_branch(const std::string& branch) {
  if (branch.empty()) return;
  const auto ref = common_dir_ / (std::string(branch_prefix) + branch);
  for (const auto& file : {ref, fs::path(ref.string() + ".lock")}) {
    files_.push_back(file);
    seen_ += state_of(file) + "\n";
  }
}

void HostMark::also_files(const std::vector<std::string>& files) {
  for (std::size_t i = 0; i < std::min(files.size(), named_limit); ++i) {
    const fs::path file = files[i];
    if (file.is_absolute() || std::find(file.begin(), file.end(), "..") != file.end()) continue;
    files_.push_back(worktree_ / file);
    seen_ += state_of(files_.back()) + "\n";
  }
}

std::string HostMark::look() const {
  std::string state;
  for (const auto& file : files_) state += state_of(file) + "\n";
  return state;
}

bool HostMark::changed() {
  auto state = look();
  return std::exchange(seen_, state) != state;
}

}  // namespace agentvm::sync
