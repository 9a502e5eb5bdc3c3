#include "sync/salvage.hpp"

#include <csignal>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>

#include "sync/salvage/copied_repository.hpp"
#include "sync/salvage/serve.hpp"
#include "sync/salvage/work_tree.hpp"
#include "vmm/base/log.hpp"

namespace agentvm::sync {
namespace {

constexpr std::string_view folder_prefix = "salvage-";
constexpr const char* repository_name = "repository";
constexpr const char* tree_name = "tree";

void sweep(const fs::path& scratch) {
  std::error_code problem;
  for (const auto& entry : fs::directory_iterator(scratch, problem))
    if (entry.path().filename().string().starts_with(folder_prefix)) remove_tree(entry.path());
}

}  // namespace

Salvage::Salvage(const SalvageRequest& request, const Progress& progress, Deadline deadline) {
  const UniqueFd workspace(::open(request.workspace.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!workspace)
    throw Error(ErrorCode::not_found,
                fmt::format("the workspace {} cannot be opened: {}", request.workspace.string(), errno_text(errno)));
  ensure_private_dir(request.scratch);
  sweep(request.scratch);
  folder_ = fs::canonical(request.scratch) / (std::string(folder_prefix) + random_hex(8));
  try {
    ensure_private_dir(folder_);
    report(progress, "salvage", "reading the commits that are only in the workspace");
    CopiedRepository repository(workspace.get(), request.workspace, folder_ / repository_name, request.limits,
                                deadline);
    report(progress, "salvage", "reading what was not committed");
    const auto work =
        commit_work_tree(workspace.get(), request.workspace, folder_ / tree_name, repository, request.limits, deadline);
    remove_tree(folder_ / tree_name);
    warnings_ = repository.warnings();
    warnings_.insert(warnings_.end(), work.warnings.begin(), work.warnings.end());
    has_uncommitted_ = work.commit.has_value();
    if (work.commit) repository.add_branch(request.branch, *work.commit);
  } catch (...) {
    try {
      remove_tree(folder_);
    } catch (const Error& error) {
      log::warn("salvage", "{}", error.what());  // the next one sweeps it
    }
    throw;
  }
}

Salvage::~Salvage() {
  try {
    remove_tree(folder_);
  } catch (const Error& error) {
    log::warn("salvage", "{}", error.what());
  }
}

std::unique_ptr<guest::Streams> Salvage::streams() const {
  return serve_repository(folder_ / repository_name);
}

}  // namespace agentvm::sync
