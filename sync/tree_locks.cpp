#include "sync/tree_locks.hpp"

#include <algorithm>
#include <thread>

#include <fmt/format.h>

#include "sync/refs.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::sync {
namespace {

constexpr milliseconds patience{2'000}, turn{20};
constexpr int looks_without_a_holder = 10;  // a git ends a moment after its lock was seen
constexpr std::size_t words_limit_bytes = 64u << 10;
constexpr std::size_t shown_words = 2, shown_bytes = 100;

bool is_below(const fs::path& path, const fs::path& folder) {
  const auto text = path.string(), root = folder.string();
  return text == root || text.starts_with(root.ends_with('/') ? root : root + "/");
}

/// A process that is at work on the repository, as a user knows it: "git commit (process 123)"; empty: it is not.
std::string holder_name(const fs::path& process, const HostRepository& host, const fs::path& lock) {
  std::error_code problem;
  const auto program = fs::read_symlink(process / "exe", problem).filename().string();
  if (problem) return {};  // a kernel thread, another user's, or gone
  const auto words = split_nul(read_file_if_exists(process / "cmdline", words_limit_bytes).value_or(""));
  bool holds = false;
  for (const auto& fd : fs::directory_iterator(process / "fd", problem))
    holds = holds || fs::read_symlink(fd.path(), problem) == lock;
  if (!holds && program == "git") {
    const auto cwd = fs::read_symlink(process / "cwd", problem);
    for (const auto* folder : {&host.worktree, &host.git_dir, &host.common_dir}) {
      holds = holds || (!problem && is_below(cwd, *folder));
      for (const auto& word : words) holds = holds || word.find(folder->string()) != std::string::npos;
    }
  }
  if (!holds) return {};
  std::string text = program;
  for (std::size_t i = 1; i < std::min(words.size(), shown_words); ++i) text += " " + words[i];
  return fmt::format("{} (process {})", clean_guest_text(text, Newlines::escape, shown_bytes),
                     process.filename().string());
}

std::string find_holder(const HostRepository& host, const fs::path& lock) {
  std::error_code problem;
  for (const auto& entry : fs::directory_iterator("/proc", problem)) {
    const auto name = entry.path().filename().string();
    if (!std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; })) continue;
    try {
      if (auto holder = holder_name(entry.path(), host, lock); !holder.empty()) return holder;
    } catch (const std::exception&) {  // it ended while we looked
    }
  }
  return {};
}

std::vector<fs::path> locks_on_the_way(const HostRepository& host, const std::string& branch) {
  std::vector<fs::path> locks;
  for (const char* name : {"index.lock", "HEAD.lock", "ORIG_HEAD.lock"}) locks.push_back(host.git_dir / name);
  locks.push_back(host.common_dir / (std::string(branch_prefix) + branch + ".lock"));
  return locks;
}

}  // namespace

std::optional<TreeLock> lock_in_the_way(const HostRepository& host, const std::string& branch, Deadline deadline) {
  deadline = deadline.sooner(Deadline::after(patience));
  for (const auto& lock : locks_on_the_way(host, branch)) {
    std::string holder;
    int looks = 0;
    for (std::error_code none; fs::exists(fs::symlink_status(lock, none)); std::this_thread::sleep_for(turn)) {
      holder = find_holder(host, lock);
      if (holder.empty() ? ++looks == looks_without_a_holder : deadline.expired()) return TreeLock{lock, holder};
    }
  }
  return std::nullopt;
}

}  // namespace agentvm::sync
