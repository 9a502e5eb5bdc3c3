// Flow: the tree on disk (D) through a copy of the index, with its new objects in a folder of ours -> a three-way merge
// of D and the snapshot over the snapshot's base, in a bare repository -> what it would change (D..M) is looked at: in
// the way? gated? -> git's own checkout from D to M with the copy as its index, which compares every file with what D
// was made from before it changes the first one. The user's index, references and object store are never written.
#include "sync/wip_apply.hpp"

#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <sys/stat.h>

#include "sync/bare_trial.hpp"
#include "sync/gate_range.hpp"
#include "sync/host_tree.hpp"
#include "sync/plan.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::sync {
namespace {

constexpr std::size_t listed_limit = 100;

/// Goes away with the work.
class WorkFolder {
 public:
  explicit WorkFolder(const fs::path& scratch) {
    ensure_private_dir(scratch);
    path_ = fs::canonical(scratch) / "apply";
    remove_tree(path_);  // of one that was killed
  }
  ~WorkFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

class Apply {
 public:
  Apply(const ApplyRequest& request, Deadline deadline)
      : request_(request),
        deadline_(deadline),
        host_(open_host_repository(request.repository, deadline)),
        work_(request.scratch),
        trial_(work_.path(), host_.object_dirs),
        git_(HostGit(host_.worktree)
                 .with_env("GIT_INDEX_FILE", (work_.path() / "index").string())
                 .with_env("GIT_OBJECT_DIRECTORY", trial_.objects().string())) {}

  ApplyOutcome all() {
    if (!host_.operation.empty())
      return refuse({}, host_.operation + " is in progress in your work tree", {"git status"});
    copy_index();
    if (const auto unmerged = git_.output({"ls-files", "-z", "--unmerged"}, deadline_); !unmerged.empty())
      return refuse({}, "your work tree has unmerged files", {"git status"});
    const auto on_disk = tree_on_disk();
    const auto merged = merge(on_disk);
    if (!merged) return std::move(outcome_);
    auto files = split_nul(git_.output(raw_diff(on_disk, *merged), deadline_));
    outcome_.files_changed = files.size();
    if (files.size() > listed_limit) files.resize(listed_limit);
    outcome_.files = std::move(files);
    if (outcome_.files_changed == 0) {
      outcome_.result = ApplyOutcome::Result::up_to_date;
      return std::move(outcome_);
    }
    if (auto in_the_way = untracked_in_the_way(git_, host_.worktree, on_disk, *merged, deadline_); !in_the_way.empty())
      return refuse(std::move(in_the_way), "files in your work tree are in the way", stash_commands());
    if (!ask_at_the_gate(on_disk, *merged)) return std::move(outcome_);
    return check_out(on_disk, *merged);
  }

 private:
  static std::vector<std::string> raw_diff(const std::string& from, const std::string& to) {
    return {"diff-tree", "-r", "-z", "--name-only", "--no-renames", "--no-ext-diff", from, to};
  }

  std::string word() const { return fmt::format("{} {}", request_.entry.sandbox, shell_word(request_.entry.name)); }
  std::vector<std::string> stash_commands() const {
    return {fmt::format("git stash --include-untracked && agentvm wip apply {}", word()),
            fmt::format("git switch -c wip {}", shell_word(request_.entry.ref))};
  }

  void set_refusal(std::vector<std::string> files, std::string reason, std::vector<std::string> commands) {
    outcome_.result = ApplyOutcome::Result::conflict;
    if (files.size() > listed_limit) files.resize(listed_limit);
    outcome_.conflicts = std::move(files);
    outcome_.reason = std::move(reason);
    outcome_.commands = std::move(commands);
  }
  ApplyOutcome refuse(std::vector<std::string> files, std::string reason, std::vector<std::string> commands) {
    set_refusal(std::move(files), std::move(reason), std::move(commands));
    return std::move(outcome_);
  }

  /// With its time: git tells by it which files may have changed within the same tick.
  void copy_index() {
    std::error_code problem;
    const auto from = host_.git_dir / "index", to = work_.path() / "index";
    if (!fs::exists(from, problem)) return;
    const auto time = fs::last_write_time(from, problem);
    if (!problem) fs::copy_file(from, to, problem);
    if (!problem) fs::last_write_time(to, time, problem);
    if (problem)
      throw Error(ErrorCode::operation_failed,
                  fmt::format("the index of {} cannot be read: {}", host_.worktree.string(), problem.message()));
  }

  /// Untracked files that the snapshot has, too, and that can be compared with it: no folders, nothing behind a link.
  std::string meeting_names() {
    const auto base = request_.entry.base.empty() ? std::string(empty_tree) : request_.entry.base;
    std::string names;
    for (const auto& name : split_nul(git_.output(raw_diff(base, request_.entry.commit), deadline_))) {
      struct stat status {};
      bool plain = ::lstat((host_.worktree / name).c_str(), &status) == 0 &&
                   (S_ISREG(status.st_mode) || S_ISLNK(status.st_mode));
      for (auto slash = name.find('/'); plain && slash != std::string::npos; slash = name.find('/', slash + 1))
        plain = ::lstat((host_.worktree / name.substr(0, slash)).c_str(), &status) == 0 && S_ISDIR(status.st_mode);
      if (plain) names += name + std::string(1, '\0');
    }
    return names;
  }

  std::string tree_on_disk() {
    git_.output({"add", "--update"}, deadline_);  // of the whole tree; newer gits refuse ":/" where it is empty
    if (const auto names = meeting_names(); !names.empty())
      git_.output({"--literal-pathspecs", "add", "--force", "--pathspec-from-file=-", "--pathspec-file-nul"}, deadline_,
                  names);
    return git_.line({"write-tree"}, deadline_);
  }

  /// Commits that stand for the three trees: the base counts, wherever the user's history has gone since.
  std::optional<std::string> merge(const std::string& on_disk) {
    const auto& entry = request_.entry;
    const auto base = trial_.commit(entry.base.empty() ? empty_tree : tree_of(entry.base), {}, deadline_);
    const auto ours = base ? trial_.commit(on_disk, {*base}, deadline_) : std::nullopt;
    const auto theirs = base ? trial_.commit(entry.tree, {*base}, deadline_) : std::nullopt;
    const auto merged = ours && theirs ? trial_.merge(*ours, *theirs, deadline_) : std::nullopt;
    if (!merged)
      throw Error(ErrorCode::host_lacks, "the host's git cannot try a merge; 2.38 or newer can", "git --version");
    if (!merged->tree.empty()) return merged->tree;
    const auto count = merged->conflicts.size();
    set_refusal(merged->conflicts,
                fmt::format("{} file{} differ{} from what is in your work tree; nothing was changed", count,
                            count == 1 ? "" : "s", count == 1 ? "s" : ""),
                stash_commands());
    return std::nullopt;
  }

  std::string tree_of(const std::string& commit) {
    return trial_.git().line({"rev-parse", commit + "^{tree}"}, deadline_);
  }

  bool ask_at_the_gate(const std::string& from, const std::string& to) {
    // One list per repository and sandbox: a newer snapshot than the one that was shown is asked for again.
    ShownGate shown(request_.scratch, "wip of " + request_.entry.sandbox + " in " + host_.common_dir.string());
    const auto found = search_range(git_, from, to, request_.gate, shown.seen(), deadline_);
    outcome_.gated = found.listed;
    outcome_.gated_count = found.entries.size();
    const auto refused = shown.refuse(found, {.accept = request_.accept});
    if (!refused) return true;
    outcome_.result = ApplyOutcome::Result::gated;
    outcome_.reason = *refused;
    outcome_.commands = {fmt::format("agentvm wip show {}", word()),
                         fmt::format("agentvm wip apply {} --accept", word())};
    return false;
  }

  ApplyOutcome check_out(const std::string& from, const std::string& to) {
    const auto result = git_.run({"read-tree", "-m", "-u", from, to}, deadline_);
    if (result.status.ok()) return std::move(outcome_);
    // Somebody worked in the tree between our look and git's: it changes nothing then.
    std::string words;
    for (const auto& line : split_lines(result.err))
      if (line.starts_with("error: ") || line.starts_with("fatal: "))
        words += (words.empty() ? "" : "; ") + clean_guest_text(line.substr(7));
    return refuse({}, "git did not take the changes: " + words, stash_commands());
  }

  const ApplyRequest& request_;
  Deadline deadline_;
  HostRepository host_;
  WorkFolder work_;
  BareTrial trial_;
  HostGit git_;
  ApplyOutcome outcome_;
};

}  // namespace

std::string_view to_string(ApplyOutcome::Result result) {
  switch (result) {
    case ApplyOutcome::Result::applied:
      return "applied";
    case ApplyOutcome::Result::up_to_date:
      return "up-to-date";
    case ApplyOutcome::Result::gated:
      return "gated";
    case ApplyOutcome::Result::conflict:
      return "conflict";
  }
  return "applied";
}

int ApplyOutcome::exit_code() const {
  return result == Result::applied || result == Result::up_to_date ? 0 : agentvm::exit_code(ErrorCode::decision_needed);
}

ApplyOutcome apply_wip(const ApplyRequest& request, Deadline deadline) {
  try {
    return Apply(request, deadline).all();
  } catch (Error& error) {
    error.while_doing("applying " + request.entry.ref);
    throw;
  }
}

}  // namespace agentvm::sync
