#include "guest/agent/apply.hpp"

#include <cerrno>
#include <cstdint>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest/agent/accounts.hpp"
#include "vmm/base/fd.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::guest::agent {
namespace {

/// Opens below `dir_fd` as if that were "/": ".." and absolute links stay inside.
int open_in_root(int dir_fd, const char* path, int flags) {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC);
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  return static_cast<int>(::syscall(SYS_openat2, dir_fd, path, &how, sizeof how));
}

/// Without root (in a test) everything belongs to the caller.
void give(int fd, unsigned uid, unsigned gid, const std::string& subject) {
  if (::geteuid() == 0) check_errno(::fchown(fd, uid, gid), subject);
}

/// The folder of an absolute guest path; parts that are missing are made. `uid` and `gid` own what is made.
UniqueFd open_parent(int root, const fs::path& folder, unsigned uid, unsigned gid, unsigned mode) {
  UniqueFd current(check_errno(::openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "the guest's root"));
  fs::path so_far;
  for (const auto& part : folder.relative_path()) {
    so_far /= part;
    UniqueFd next(open_in_root(root, so_far.c_str(), O_RDONLY | O_DIRECTORY));
    if (!next && errno == ENOENT) {
      check_errno(::mkdirat(current.get(), part.c_str(), mode), "creating /" + so_far.string());
      next.reset(check_errno(::openat(current.get(), part.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
                             "/" + so_far.string()));
      give(next.get(), uid, gid, "/" + so_far.string());
    }
    if (!next) throw_errno("/" + so_far.string());
    current = std::move(next);
  }
  return current;
}

void place(const fs::path& root, const GuestFile& file, unsigned folder_mode) {
  const UniqueFd top(check_errno(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), root.string()));
  const fs::path path = file.path;
  const auto parent = open_parent(top.get(), path.parent_path(), file.uid, file.gid, folder_mode);
  const std::string name = path.filename(), temporary = "." + name.substr(0, 200) + ".agentvm";
  ::unlinkat(parent.get(), temporary.c_str(), 0);
  const UniqueFd out(
      check_errno(::openat(parent.get(), temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600),
                  file.path));
  write_all(out.get(), file.content, Deadline::never());
  give(out.get(), file.uid, file.gid, file.path);
  check_errno(::fchmod(out.get(), file.mode), file.path);
  if (::renameat(parent.get(), temporary.c_str(), parent.get(), name.c_str()) < 0) {
    const int problem = errno;
    ::unlinkat(parent.get(), temporary.c_str(), 0);
    throw_errno(file.path, problem);
  }
}

}  // namespace

void place_file(const fs::path& root, const GuestFile& file) {
  place(root, file, 0755);
}

void write_hostname(const fs::path& root, const std::string& hostname) {
  place_file(root, {"/etc/hostname", 0644, 0, 0, hostname + "\n"});
  place_file(root, {"/etc/hosts", 0644, 0, 0,
                    fmt::format("127.0.0.1\tlocalhost\n127.0.1.1\t{}\n::1\tlocalhost ip6-localhost ip6-loopback\n",
                                hostname)});
}

void write_identity(const fs::path& root, const Identity& identity) {
  write_hostname(root, identity.hostname);
  place_file(root, {"/etc/machine-id", 0444, 0, 0, identity.machine_id + "\n"});
  if (!identity.host_key_private.empty()) {
    place_file(root, {"/etc/ssh/ssh_host_ed25519_key", 0600, 0, 0, identity.host_key_private});
    place_file(root, {"/etc/ssh/ssh_host_ed25519_key.pub", 0644, 0, 0, identity.host_key_public});
  }
  if (!identity.authorized_keys.empty()) {
    const auto account = find_account(root, "agent");
    place(root, {account.home + "/.ssh/authorized_keys", 0600, account.uid, account.gid, identity.authorized_keys},
          0700);
  }
  if (identity.network && !identity.network->resolv_conf.empty())
    place_file(root, {"/etc/resolv.conf", 0644, 0, 0, identity.network->resolv_conf});
  for (const auto& file : identity.files) place_file(root, file);
}

}  // namespace agentvm::guest::agent
