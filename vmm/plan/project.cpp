#include <system_error>

#include <fmt/format.h>

#include "vmm/base/files.hpp"
#include "vmm/plan.hpp"

namespace agentvm {
namespace {

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}
bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

std::string first_line(const fs::path& path) {
  constexpr std::size_t limit_bytes = 8192;
  try {
    auto text = read_file(path, limit_bytes);
    return text.substr(0, text.find('\n'));
  } catch (const Error&) {
    return "";
  }
}

/// A folder that git itself would take for a repository; in a worktree's, objects and refs are in the common folder.
bool is_git_dir(const fs::path& path) {
  return is_file(path / "HEAD") &&
         (is_file(path / "commondir") || (is_folder(path / "objects") && is_folder(path / "refs")));
}

/// The repository that belongs to a work tree at `folder`, if one does.
std::optional<fs::path> git_dir_of(const fs::path& folder) {
  const auto entry = folder / ".git";
  if (is_folder(entry)) return is_git_dir(entry) ? std::optional(entry) : std::nullopt;
  if (!is_file(entry)) return std::nullopt;
  constexpr std::string_view prefix = "gitdir: ";
  const auto line = first_line(entry);
  if (!line.starts_with(prefix)) return std::nullopt;
  const fs::path target = line.substr(prefix.size());
  const auto git_dir = (target.is_absolute() ? target : folder / target).lexically_normal();
  return is_git_dir(git_dir) ? std::optional(git_dir) : std::nullopt;
}

/// Paths travel in JSON, which holds UTF-8 alone; a path that changes on the way would name another folder.
void require_utf8(const fs::path& path) {
  try {
    (void)Json(path.string()).dump();
  } catch (const nlohmann::json::exception&) {
    throw Error(ErrorCode::usage, fmt::format("{}: the path is not valid UTF-8", dump_json(Json(path.string()))));
  }
}

}  // namespace

Project find_project(const fs::path& start) {
  std::error_code problem;
  const auto resolved = fs::canonical(start, problem);
  if (problem)
    throw Error(ErrorCode::not_found, fmt::format("{}: {}", start.string(), problem.message()),
                fmt::format("ls -ld {}", start.string()));
  if (!is_folder(resolved))
    throw Error(ErrorCode::not_found, fmt::format("{} is not a folder", start.string()),
                fmt::format("ls -ld {}", start.string()));
  require_utf8(resolved);
  for (auto folder = resolved;; folder = folder.parent_path()) {
    if (const auto git_dir = git_dir_of(folder)) {
      const auto subfolder = resolved.lexically_relative(folder);
      return {folder, subfolder == "." ? fs::path() : subfolder, *git_dir};
    }
    if (is_git_dir(folder)) {
      if (folder.filename() == ".git")
        throw Error(ErrorCode::not_found, fmt::format("{} is inside a .git folder, not in a work tree", start.string()),
                    fmt::format("cd {}", folder.parent_path().string()));
      throw Error(ErrorCode::not_found,
                  fmt::format("{} is a bare git repository: it has no work tree to bring along", folder.string()),
                  fmt::format("git clone {} work && cd work", folder.string()));
    }
    if (folder == folder.root_path()) break;
  }
  throw Error(ErrorCode::not_found, fmt::format("not a git repository: {} and the folders above it", resolved.string()),
              fmt::format("git -C {} init", resolved.string()));
}

std::optional<std::string> current_branch(const Project& project) {
  constexpr std::string_view prefix = "ref: refs/heads/";
  const auto line = first_line(project.git_dir / "HEAD");
  if (!line.starts_with(prefix)) return std::nullopt;
  auto branch = line.substr(prefix.size());
  // ".invalid" is what a repository with reftables leaves in this file.
  if (branch.empty() || branch == ".invalid") return std::nullopt;
  return branch;
}

}  // namespace agentvm
