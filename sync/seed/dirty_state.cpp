#include "sync/seed/dirty_state.hpp"

#include <map>

#include <fcntl.h>
#include <fmt/format.h>

#include "sync/refs.hpp"
#include "sync/seed/tree_writer.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::sync {
namespace {

/// A folder name for GIT_ALTERNATE_OBJECT_DIRECTORIES, where ':' separates: quoted as git reads it.
std::string alternate_word(const std::string& path) {
  std::string word = "\"";
  for (const char c : path) {
    if (c == '"' || c == '\\') word += '\\';
    word += c;
  }
  return word + "\"";
}

void run_between_files(const HostGit& git, std::vector<std::string> args, const fs::path& in, const fs::path& out,
                       Deadline deadline) {
  const auto input = open_file(in, O_RDONLY);
  const auto output = open_file(out, O_WRONLY | O_CREAT | O_TRUNC);
  const auto what = args.front();
  auto spec = git.spec(std::move(args));
  spec.fds = {{0, input.get()}, {1, output.get()}};
  auto process = Process::spawn(spec);
  const auto status = process.wait(deadline);
  if (!status) throw Error(ErrorCode::timed_out, fmt::format("git {} did not finish in time", what));
  if (!status->ok())
    throw Error(ErrorCode::operation_failed, fmt::format("git {} failed: {}", what, status->describe()));
}

std::string joined_nul(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) text += name + std::string(1, '\0');
  return text;
}

}  // namespace

DirtyState::DirtyState(const HostRepository& host, const fs::path& work_dir, std::vector<std::string>& warnings,
                       Deadline deadline)
    : host_(host), work_(work_dir), warnings_(warnings), deadline_(deadline), git_(host.worktree) {
  fs::create_directories(work_ / "objects");
  git_ = git_.with_env("GIT_INDEX_FILE", (work_ / "index").string())
             .with_env("GIT_OBJECT_DIRECTORY", (work_ / "objects").string())
             .with_env("GIT_ALTERNATE_OBJECT_DIRECTORIES", alternate_word((host.common_dir / "objects").string()));
  copy_index();
  settle_unmerged();
  git_.run({"update-index", "-q", "--refresh"}, deadline_);  // status 1 says only that something is modified
  tree_ = git_.line({"write-tree"}, deadline_);
  read_changes();
}

void DirtyState::copy_index() {
  std::error_code problem;
  // Git replaces the index by rename, so a copy is always one version of it.
  if (fs::exists(host_.git_dir / "index", problem)) {
    // Git compares a file's time with the index's to see that the file may have changed within the same tick. A copy
    // with a later time would hide that change; one with an earlier time only has more files read.
    const auto time = fs::last_write_time(host_.git_dir / "index", problem);
    if (!problem) fs::copy_file(host_.git_dir / "index", work_ / "index", problem);
    if (!problem) fs::last_write_time(work_ / "index", time, problem);
    if (problem)
      throw Error(ErrorCode::operation_failed,
                  fmt::format("the index of {} cannot be read: {}", host_.worktree.string(), problem.message()));
  }
}

void DirtyState::settle_unmerged() {
  std::string commands;
  std::vector<std::string> names;
  for (const auto& row : split_nul(git_.output({"ls-files", "-z", "--unmerged"}, deadline_))) {
    const auto name = row.substr(row.find('\t') + 1);
    if (names.empty() || names.back() != name) names.push_back(name);
  }
  if (names.empty()) return;
  for (const auto& name : names)
    commands += "0 " + std::string(oid_hex_length, '0') + "\t" + name + std::string(1, '\0');
  if (!host_.head.empty()) {
    std::vector<std::string> args = {"--literal-pathspecs", "ls-tree", "-z", "--full-tree", host_.head, "--"};
    args.insert(args.end(), names.begin(), names.end());
    for (const auto& row : split_nul(git_.output(args, deadline_))) commands += row + std::string(1, '\0');
  }
  git_.output({"update-index", "-z", "--index-info"}, deadline_, commands);
  warnings_.push_back(fmt::format("{} unmerged file{} came along as plain changes, conflict marks included",
                                  names.size(), names.size() == 1 ? "" : "s"));
}

void DirtyState::read_changes() {
  const auto base = host_.head.empty() ? std::string(empty_tree) : host_.head;
  counts_.staged =
      split_nul(
          git_.output({"diff-tree", "-r", "-z", "--name-only", "--ignore-submodules=all", base, tree_}, deadline_))
          .size();
  const auto fields =
      split_nul(git_.output({"diff-files", "-z", "--raw", "--no-renames", "--ignore-submodules=all"}, deadline_));
  for (std::size_t i = 0; i + 1 < fields.size(); i += 2) {
    const char status = fields[i].back();
    const auto& name = fields[i + 1];
    if (status == 'D') {
      deleted_.push_back(name);
      continue;
    }
    if (status == 'A') intended_.push_back(name);
    written_.push_back(name);
  }
  for (const auto& name : split_nul(git_.output({"ls-files", "-z", "--others", "--exclude-standard"}, deadline_))) {
    if (name.ends_with('/')) {
      warnings_.push_back(fmt::format("the nested repository {} was not copied", clean_guest_text(name)));
    } else {
      untracked_.push_back(name);
    }
  }
  counts_.modified = written_.size();
  counts_.deleted = deleted_.size();
  counts_.untracked = untracked_.size();
}

void DirtyState::send_objects(const HostGit& clone) const {
  if (!host_.head.empty() && git_.line({"rev-parse", host_.head + "^{tree}"}, deadline_) == tree_) return;
  write_file_atomic(work_ / "revs", tree_ + "\n" + (host_.head.empty() ? "" : "^" + host_.head + "\n"));
  run_between_files(git_, {"pack-objects", "--revs", "--thin", "--stdout", "-q"}, work_ / "revs", work_ / "staged.pack",
                    deadline_);
  run_between_files(clone, {"index-pack", "--stdin", "--fix-thin"}, work_ / "staged.pack", work_ / "staged.log",
                    deadline_);
}

void DirtyState::apply(const HostGit& clone) {
  TreeCopier copier(host_.worktree, clone.folder());
  // Removals first: a file may have become a folder.
  for (const auto& name : deleted_) copier.remove(name);
  for (const auto& name : written_)
    if (!copier.copy(name)) copier.remove(name);
  for (const auto& name : untracked_)
    if (!copier.copy(name))
      warnings_.push_back(fmt::format("{} is not a regular file and was not copied", clean_guest_text(name)));
  if (!intended_.empty())
    clone.output({"--literal-pathspecs", "add", "--intent-to-add", "--pathspec-from-file=-", "--pathspec-file-nul"},
                 deadline_, joined_nul(intended_));
}

}  // namespace agentvm::sync
