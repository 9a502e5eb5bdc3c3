#include "sync/salvage/work_tree.hpp"

#include <set>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sync/git/lookalikes.hpp"
#include "sync/git/object_rules.hpp"
#include "sync/salvage/survey.hpp"
#include "sync/seed/tree_writer.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::sync {
namespace {

constexpr std::size_t rule_file_limit_bytes = 1u << 20;  // .gitignore, .gitattributes, .gitmodules

class WorkTree {
 public:
  WorkTree(int tree, const std::string& head, const fs::path& copy, CopiedRepository& repository,
           const SalvageLimits& limits, Deadline deadline)
      : workspace_(tree),
        copy_(copy),
        repository_(repository),
        limits_(limits),
        deadline_(deadline),
        head_(repository.commit_of(head, deadline)),
        copier_(duplicate(tree), open_file(copy, O_RDONLY | O_DIRECTORY)) {}

  UncommittedWork commit() {
    make_skeleton();
    // Contents as they are: a conversion that the guest's attributes ask for could fail, and nothing would be saved.
    ensure_private_dir(repository_.folder() / "info");
    write_file_atomic(repository_.folder() / "info/attributes", "* -filter -working-tree-encoding\n");
    repository_.with_env("GIT_DIR", repository_.folder().string());
    repository_.with_env("GIT_WORK_TREE", copy_.string());
    repository_.with_env("GIT_INDEX_FILE", (repository_.folder() / "salvage.index").string());
    const bool on_head = repository_.ask({"read-tree", head_ ? *head_ : "--empty"}, deadline_) && head_;
    fill();
    restore_unreadable();
    const auto added = repository_.run({"add", "--all", "--", "."}, deadline_);
    if (!added.status.ok())
      throw Error(ErrorCode::operation_failed,
                  fmt::format("the files of the workspace could not be collected: git add: {}",
                              clean_guest_text(added.err, Newlines::escape, 300)));
    return finish(on_head);
  }

 private:
  /// Every folder and link, the files that say what is ignored, and an empty file in the place of each other one.
  void make_skeleton() {
    const auto count = survey(workspace_, "", limits_.entries, deadline_, [this](const SurveyEntry& entry) {
      // A repository of its own in there: its files come along, its objects do not.
      if (git::is_dotgit(entry.name())) return false;
      if (!can_come_home(entry)) {
        ++left_out_;
        return false;
      }
      if (S_ISDIR(entry.mode)) return true;
      if (S_ISLNK(entry.mode)) {
        if (!take(entry.path)) ++left_out_;
      } else if (is_rule_file(entry)) {
        if (!take_rule_file(entry)) broken_.insert(entry.path);
      } else {
        copier_.place_empty(entry.path);
        waiting_.insert(entry.path);
      }
      return false;
    });
    left_out_ += count.closed_folders;
  }

  static bool is_rule_file(const SurveyEntry& entry) {
    return entry.name() == ".gitignore" || git::is_dotgitattributes(entry.name()) ||
           git::is_dotgitmodules(entry.name());
  }

  /// What the checks at home would refuse would take everything else with it.
  bool take_rule_file(const SurveyEntry& entry) {
    const auto content = read_beneath(workspace_, entry.path, rule_file_limit_bytes);
    if (!content) return false;
    if (git::is_dotgitmodules(entry.name()) && git::gitmodules_problem(*content)) return false;
    if (git::is_dotgitattributes(entry.name()) && git::gitattributes_problem(*content)) return false;
    return take(entry.path);
  }

  bool take(const std::string& path) {
    const auto bytes = copier_.copy_as(path, path, limits_.bytes - repository_.copied_bytes() - bytes_);
    bytes_ += bytes.value_or(0);
    return bytes.has_value();
  }

  void fill() {
    for (const auto& arguments : {std::vector<std::string>{"ls-files", "-z"},
                                  std::vector<std::string>{"ls-files", "-z", "--others", "--exclude-standard"}}) {
      const auto listing = repository_.run(arguments, deadline_);
      for (const auto& path : split_nul(listing.out)) {
        if (waiting_.erase(path) == 0) continue;
        if (deadline_.expired())
          throw Error(ErrorCode::timed_out, "copying the workspace's files did not finish in time");
        if (!take(path)) broken_.insert(path);
      }
    }
  }

  /// What could not be read stays as it was committed, or away when it never was: a false empty file would be a loss
  /// that looks like a change.
  void restore_unreadable() {
    if (broken_.empty()) return;
    std::string names;
    for (const auto& path : broken_) {
      copier_.remove(path);
      names += path + '\0';
    }
    repository_.run({"checkout-index", "--force", "--quiet", "-z", "--stdin"}, deadline_, names);
  }

  UncommittedWork finish(bool on_head) {
    UncommittedWork work;
    if (!broken_.empty()) work.warnings.push_back(fmt::format("{} files could not be read or taken", broken_.size()));
    if (left_out_ != 0)
      work.warnings.push_back(
          fmt::format("{} entries were left out: unreadable folders, devices, odd names", left_out_));
    const auto tree = repository_.ask({"write-tree"}, deadline_);
    if (!tree) throw Error(ErrorCode::operation_failed, "the files of the workspace could not be written as a tree");
    if (on_head && repository_.ask({"rev-parse", *head_ + "^{tree}"}, deadline_) == tree) return work;
    if (!on_head && repository_.ask({"ls-files"}, deadline_).value_or("").empty()) return work;
    for (const char* who : {"AUTHOR", "COMMITTER"}) {
      repository_.with_env(fmt::format("GIT_{}_NAME", who), "agentvm");
      repository_.with_env(fmt::format("GIT_{}_EMAIL", who), "agentvm@localhost");
    }
    std::vector<std::string> arguments = {"commit-tree", *tree, "-m", "Uncommitted work rescued by agentvm"};
    if (on_head) arguments.insert(arguments.end(), {"-p", *head_});
    work.commit = repository_.ask(arguments, deadline_);
    if (!work.commit) throw Error(ErrorCode::operation_failed, "the rescued files could not be committed");
    return work;
  }

  int workspace_;
  fs::path copy_;
  CopiedRepository& repository_;
  SalvageLimits limits_;
  Deadline deadline_;
  std::optional<std::string> head_;
  TreeCopier copier_;
  std::set<std::string> waiting_, broken_;
  std::uint64_t bytes_ = 0, left_out_ = 0;
};

}  // namespace

UncommittedWork commit_work_tree(int tree, const std::string& head, const fs::path& copy, CopiedRepository& repository,
                                 const SalvageLimits& limits, Deadline deadline) {
  ensure_private_dir(copy);
  return WorkTree(tree, head, copy, repository, limits, deadline).commit();
}

}  // namespace agentvm::sync
