#include "sync/forget.hpp"

#include "sync/ref_writer.hpp"
#include "sync/refs.hpp"

namespace agentvm::sync {

std::vector<std::string> forget_what_is_had(const fs::path& repository, const std::string& sandbox, Deadline deadline) {
  const HostGit git(repository);
  const auto host = open_host_repository(repository, deadline);
  std::vector<RefEdit> doomed;
  std::vector<std::string> kept;
  for (const auto& [ref, oid] : list_refs(git, mirror_ref(sandbox, ""), deadline)) {
    const auto missed = git.line({"rev-list", "-n", "1", oid, "--not", "--branches", "--tags", "--remotes"}, deadline);
    if (missed.empty())
      doomed.push_back({ref, "", oid});
    else
      kept.push_back(ref);
  }
  if (!doomed.empty()) RefWriter(host, git, deadline).apply(std::move(doomed));
  return kept;
}

bool has_work_of_its_own(const fs::path& repository, Deadline deadline) {
  const HostGit git(repository);
  if (!git.line({"status", "--porcelain", "--untracked-files=normal"}, deadline).empty()) return true;
  const std::vector<std::string> own = {"rev-list",           "-n",   "1",     "--branches", "--glob=refs/agentvm/*",
                                        "--glob=refs/stash*", "HEAD", "--not", "--remotes",  "--tags"};
  return !git.line(own, deadline).empty();
}

}  // namespace agentvm::sync
