#include "sync/salvage/survey.hpp"

#include <cerrno>
#include <climits>
#include <vector>

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sync/git/tree.hpp"
#include "vmm/base/error.hpp"

namespace agentvm::sync {
namespace {

UniqueFd open_folder(int root, const std::string& path) {
  open_how how{};
  how.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;
  return UniqueFd(static_cast<int>(::syscall(SYS_openat2, root, path.empty() ? "." : path.c_str(), &how, sizeof how)));
}

}  // namespace

SurveyCount survey(int root, const std::string& top, std::uint64_t limit_entries, Deadline deadline,
                   const std::function<bool(const SurveyEntry&)>& visit) {
  SurveyCount count;
  std::vector<std::string> folders = {top};
  bool first = true;
  while (!folders.empty()) {
    const auto folder = std::move(folders.back());
    folders.pop_back();
    if (deadline.expired()) throw Error(ErrorCode::timed_out, "looking through the workspace did not finish in time");
    UniqueFd fd = open_folder(root, folder);
    if (!fd) {
      if (!first) ++count.closed_folders;
      first = false;
      continue;
    }
    first = false;
    DIR* dir = ::fdopendir(fd.get());
    if (!dir) throw_errno("reading a folder of the workspace");
    fd.release();
    const std::unique_ptr<DIR, int (*)(DIR*)> closer(dir, ::closedir);
    while (const dirent* entry = ::readdir(dir)) {
      const std::string_view name = entry->d_name;
      if (name == "." || name == "..") continue;
      if (++count.entries > limit_entries)
        throw Error(ErrorCode::operation_failed,
                    fmt::format("the workspace has more than {} files and folders", limit_entries));
      struct stat status {};
      if (::fstatat(::dirfd(dir), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0) continue;
      SurveyEntry seen{folder.empty() ? std::string(name) : fmt::format("{}/{}", folder, name), status.st_mode};
      if (seen.path.size() >= PATH_MAX) {
        ++count.closed_folders;
        continue;
      }
      if (visit(seen) && S_ISDIR(status.st_mode)) folders.push_back(std::move(seen.path));
    }
  }
  return count;
}

bool can_come_home(const SurveyEntry& entry) {
  const char* mode = S_ISREG(entry.mode)   ? "100644 "
                     : S_ISLNK(entry.mode) ? "120000 "
                     : S_ISDIR(entry.mode) ? "40000 "
                                           : nullptr;
  if (!mode) return false;
  // The rule, asked about a tree of this one entry; the object's id does not matter to it.
  std::string tree = mode;
  tree += entry.name();
  tree += '\0';
  tree.append(20, '\1');
  return !git::tree_problem(tree);
}

}  // namespace agentvm::sync
