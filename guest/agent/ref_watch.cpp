#include "guest/agent/ref_watch.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string_view>

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/agent/repository_folder.hpp"

namespace agentvm::guest::agent {
namespace {

/// A commit writes its reference and then HEAD's log; a rebase hundreds of references, one after the other.
constexpr milliseconds quiet{30}, longest_burst{300};
/// Without the kernel's help: no inotify, no more watches, or no repository yet.
constexpr milliseconds blind_pause{2'000};
constexpr std::size_t entry_limit = 8'192;
constexpr std::uint32_t wanted = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_CLOSE_WRITE | IN_DELETE_SELF |
                                 IN_MOVE_SELF | IN_ONLYDIR | IN_DONT_FOLLOW;

bool is_lock(std::string_view name) {
  return name.ends_with(".lock");
}

}  // namespace

RefWatch::RefWatch(std::filesystem::path repository)
    : repository_(std::move(repository)), inotify_(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) {}

void RefWatch::take_events(SteadyTime now) {
  alignas(inotify_event) char buffer[16u << 10];
  bool relevant = false;
  ssize_t size;
  while (inotify_ && (size = ::read(inotify_.get(), buffer, sizeof buffer)) > 0) {
    for (ssize_t at = 0; at < size;) {
      const auto* event = reinterpret_cast<const inotify_event*>(buffer + at);
      at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
      const std::string_view name = event->len ? event->name : "";
      const auto watch = watches_.find(event->wd);
      if (event->mask & (IN_Q_OVERFLOW | IN_DELETE_SELF | IN_MOVE_SELF)) {
        relevant = true;
      } else if (event->mask & IN_IGNORED) {
        watches_.erase(event->wd);
      } else if (watch != watches_.end() && !is_lock(name)) {
        // git writes its index and its logs beside HEAD: they are no news.
        const bool any = watch->second == Folder::refs || watch->second == Folder::worktrees;
        relevant |= any || name == "HEAD" || name == "packed-refs" || name == "refs" || name == "worktrees";
      }
    }
  }
  if (!relevant) return;
  if (!burst_began_) burst_began_ = now;
  next_look_ = std::min(now + quiet, *burst_began_ + longest_burst);
}

void RefWatch::look(SteadyTime now) {
  take_events(now);  // what came so far is seen by this look
  digest_ = 0xcbf29ce484222325u;
  entries_ = 0;
  blind_ = !inotify_;
  whole_ = true;
  if (const UniqueFd root = open_folder(AT_FDCWD, repository_.string()))
    walk(root.get(), ".git", (repository_ / ".git").string(), Folder::git, 0);
  else
    blind_ = true, whole_ = false;
  // FNV-1a: a token is compared, never trusted.
  token_ = fmt::format("{:016x}", digest_);
  burst_began_.reset();
  next_look_.reset();
  if (blind_) next_look_ = now + blind_pause;
}

void RefWatch::walk(int parent, const std::string& name, const std::string& path, Folder kind, unsigned depth) {
  // Watched before it is listed, so that nothing falls in between.
  watch(path, kind);
  const auto folder = open_folder(parent, name);
  if (!folder) {
    if (kind == Folder::git) blind_ = true;
    if (kind == Folder::git || errno != ENOENT) whole_ = false;
    return;
  }
  if (kind == Folder::git || kind == Folder::worktree) note(folder.get(), path, "HEAD");
  if (kind == Folder::git) {
    note(folder.get(), path, "packed-refs");
    if (::faccessat(folder.get(), "reftable", F_OK, AT_SYMLINK_NOFOLLOW) == 0) whole_ = false;
    walk(folder.get(), "refs", path + "/refs", Folder::refs, depth + 1);
    walk(folder.get(), "worktrees", path + "/worktrees", Folder::worktrees, depth + 1);
  }
  if (kind == Folder::git || kind == Folder::worktree) return;
  for (const auto& entry : list(folder.get())) {
    if (entries_ >= entry_limit || depth >= reference_depth_limit) {
      blind_ = true;
      whole_ = false;
      return;
    }
    if (entry.is_folder)
      walk(folder.get(), entry.name, path + "/" + entry.name,
           kind == Folder::worktrees ? Folder::worktree : Folder::refs, depth + 1);
    else if (kind == Folder::refs && !is_lock(entry.name))
      note(folder.get(), path, entry.name.c_str());
  }
}

void RefWatch::watch(const std::string& path, Folder kind) {
  if (!inotify_) return;
  const int number = ::inotify_add_watch(inotify_.get(), path.c_str(), wanted);
  if (number >= 0)
    watches_[number] = kind;
  else if (errno != ENOENT && errno != ENOTDIR)
    blind_ = true;  // no more watches
}

/// Of a file its inode, size and times: git replaces a reference, it never writes into one.
void RefWatch::note(int folder, const std::string& path, const char* name) {
  struct stat status {};
  if (::fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) < 0) return;
  ++entries_;
  const std::int64_t facts[] = {static_cast<std::int64_t>(status.st_ino), status.st_size, status.st_mtim.tv_sec,
                                status.st_mtim.tv_nsec, status.st_mode};
  hash(path.data(), path.size() + 1);
  hash(name, std::strlen(name) + 1);
  hash(facts, sizeof facts);
}

void RefWatch::hash(const void* bytes, std::size_t size) {
  const auto* at = static_cast<const unsigned char*>(bytes);
  for (std::size_t i = 0; i < size; ++i) digest_ = (digest_ ^ at[i]) * 0x100000001b3u;
}

std::vector<RefWatch::Entry> RefWatch::list(int folder) {
  struct Close {
    void operator()(DIR* open) const { ::closedir(open); }
  };
  std::vector<Entry> entries;
  const std::unique_ptr<DIR, Close> open(::fdopendir(::fcntl(folder, F_DUPFD_CLOEXEC, 0)));
  if (!open) return entries;
  while (const dirent* entry = ::readdir(open.get())) {
    const std::string_view name = entry->d_name;
    if (name == "." || name == "..") continue;
    bool is_folder = entry->d_type == DT_DIR;
    if (entry->d_type == DT_UNKNOWN) {
      struct stat status {};
      is_folder = ::fstatat(folder, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode);
    }
    entries.push_back({std::string(name), is_folder});
    if (entries.size() > entry_limit) break;
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.name < b.name; });
  return entries;
}

}  // namespace agentvm::guest::agent
