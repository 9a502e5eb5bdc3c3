#include "guest/image/tree.hpp"

#include <algorithm>
#include <sstream>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/image/embedded.hpp"
#include "guest/image/layers.hpp"
#include "guest/image/modules.hpp"
#include "guest/image/settings.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/process.hpp"

namespace agentvm {
namespace {

/// Where `path` (absolute, in the guest) is in the tree. Links in between are followed as the guest would see them.
fs::path inside(const fs::path& tree, const fs::path& path) {
  fs::path here = tree;
  int links_left = 40;
  std::vector<std::string> rest;
  const auto push = [&](const fs::path& more) {
    std::vector<std::string> parts;
    for (const auto& part : more.relative_path()) parts.push_back(part.string());
    rest.insert(rest.end(), parts.rbegin(), parts.rend());
  };
  push(path);
  while (!rest.empty()) {
    const auto part = rest.back();
    rest.pop_back();
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      if (here != tree) here = here.parent_path();
      continue;
    }
    std::error_code ignored;
    const auto next = here / part;
    if (rest.empty() || !fs::is_symlink(next, ignored)) {
      here = next;
      continue;
    }
    if (--links_left == 0) throw Error(ErrorCode::operation_failed, fmt::format("{}: too many links", path.string()));
    const auto target = fs::read_symlink(next);
    if (target.is_absolute()) here = tree;
    push(target);
  }
  return here;
}

void make_folders(const fs::path& folder) {
  std::error_code problem;
  fs::create_directories(folder, problem);  // mode 0777 less the umask of 022 that assemble sets
  if (problem) throw_errno("cannot create " + folder.string(), problem.value());
}

void put_file(const fs::path& file, unsigned mode, std::string_view content) {
  make_folders(file.parent_path());
  std::error_code ignored;
  fs::remove(file, ignored);
  const auto fd = open_file(file, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
  write_all(fd.get(), content, Deadline::never());
  check_errno(::fchmod(fd.get(), mode), "cannot set the mode of " + file.string());
}

void put_link(const fs::path& file, const fs::path& target) {
  make_folders(file.parent_path());
  std::error_code problem;
  fs::remove(file, problem);
  fs::create_symlink(target, file, problem);
  if (problem) throw_errno("cannot link " + file.string(), problem.value());
}

void own(const fs::path& path) {
  check_errno(::lchown(path.c_str(), agent_uid, agent_gid), "cannot give " + path.string() + " to the agent");
}

void add_line(const fs::path& file, const std::string& line) {
  auto text = read_file_if_exists(file).value_or("");
  if (!text.empty() && text.back() != '\n') text += '\n';
  const auto fd = open_file(file, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
  write_all(fd.get(), text + line + "\n", Deadline::never());
}

void replace_text(const fs::path& file, const std::string& text) {
  const auto fd = open_file(file, O_WRONLY | O_TRUNC | O_NOFOLLOW | O_CLOEXEC);
  write_all(fd.get(), text, Deadline::never());
}

/// Puts the agent into an existing group of the tree.
void join(const fs::path& tree, const std::string& group) {
  for (const auto* name : {"group", "gshadow"}) {
    const auto file = inside(tree, fs::path("/etc") / name);
    replace_text(file, join_group(read_file(file), group));
  }
}

void add_agent(const fs::path& tree) {
  const auto etc = inside(tree, "/etc") / "";
  if (read_file(etc / "passwd").find("\nagent:") != std::string::npos)
    throw Error(ErrorCode::operation_failed, "a package made a user named agent");
  Accounts accounts{read_file(etc / "passwd"), read_file(etc / "shadow"), read_file(etc / "group"),
                    read_file(etc / "gshadow")};
  add_agent_account(accounts, "/bin/bash");
  replace_text(etc / "passwd", accounts.passwd);
  replace_text(etc / "shadow", accounts.shadow);
  replace_text(etc / "group", accounts.group);
  replace_text(etc / "gshadow", accounts.gshadow);
  add_line(etc / "subuid", "agent:100000:65536");
  add_line(etc / "subgid", "agent:100000:65536");

  const auto home = inside(tree, "/home/agent");
  make_folders(home);
  std::error_code problem;
  fs::copy(etc / "skel", home, fs::copy_options::recursive | fs::copy_options::copy_symlinks, problem);
  put_file(home / ".ssh" / "authorized_keys", 0600, "");
  check_errno(::chmod((home / ".ssh").c_str(), 0700), "cannot set the mode of .ssh");
  own(home);
  for (const auto& entry : fs::recursive_directory_iterator(home)) own(entry.path());
  const auto workspace = inside(tree, "/workspace");
  make_folders(workspace);
  own(workspace);
}

void set_units(const fs::path& tree, const Recipe& recipe) {
  const auto units = inside(tree, "/etc/systemd/system/x").parent_path();
  for (const auto& unit : recipe.mask) put_link(units / unit, "/dev/null");
  const auto generators = inside(tree, "/etc/systemd/system-generators/x").parent_path();
  for (const auto* name : idle_generators)
    put_link(generators / fmt::format("systemd-{}-generator", name), "/dev/null");
  put_link(units / "default.target", "/lib/systemd/system/multi-user.target");
  std::error_code ignored;
  fs::remove(units / "multi-user.target.wants" / "ssh.service", ignored);
  // Nothing to load by default, so the loader need not run; a developer's own file in this folder brings it back.
  fs::remove(inside(tree, "/etc/modules-load.d/modules.conf"), ignored);
  put_link(units / "sysinit.target.wants" / "ssh.service", "/etc/systemd/system/ssh.service");
  put_link(units / "sshd.service", "/etc/systemd/system/ssh.service");
  // Debian 13's: it would make keys that nobody uses, and comes before sshd but after what sshd comes before.
  put_link(units / "sshd-keygen.service", "/dev/null");
}

/// The folders that say what starts with what.
std::vector<fs::path> wants_folders(const fs::path& units) {
  std::vector<fs::path> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(units, ignored))
    if (entry.path().extension() == ".wants" || entry.path().extension() == ".requires") found.push_back(entry.path());
  return found;
}

void set_layer(const fs::path& tree, const ImageLayer& layer) {
  for (const auto& file : layer.files) put_file(inside(tree, file.path), file.mode, file.content);
  for (const auto& group : layer.groups) join(tree, group);
  const auto units = inside(tree, "/etc/systemd/system/x").parent_path();
  std::error_code ignored;
  for (const auto& folder : wants_folders(units))
    for (const auto& unit : layer.idle) fs::remove(folder / unit, ignored);
  for (const auto& unit : layer.wanted)
    put_link(units / (unit.ends_with(".socket") ? "sockets.target.wants" : "multi-user.target.wants") / unit,
             "/etc/systemd/system/" + unit);
}

void set_sources(const fs::path& tree, const std::vector<PackageSource>& sources) {
  const auto apt = inside(tree, "/etc/apt/x").parent_path();
  remove_tree(apt / "sources.list.d");
  make_folders(apt / "sources.list.d");
  put_file(apt / "sources.list", 0644, render_sources(sources));
  for (const auto& source : sources) {
    if (source.signed_by.empty()) continue;
    const auto key = inside(tree, source.signed_by);
    std::error_code ignored;
    if (!fs::exists(key, ignored)) put_file(key, 0644, read_file(source.signed_by));
  }
}

void empty_folder(const fs::path& folder) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) remove_tree(entry.path());
}

void forget_identity(const fs::path& tree) {
  const auto etc = inside(tree, "/etc/x").parent_path();
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(etc / "ssh", ignored))
    if (entry.path().filename().string().starts_with("ssh_host_")) fs::remove(entry.path(), ignored);
  for (const auto* file : {"resolv.conf", "hostname", "mailname", "passwd-", "shadow-", "group-", "gshadow-", "subuid-",
                           "subgid-", ".pwd.lock", "ssh/ssh_host_key"})
    fs::remove(etc / file, ignored);
  // Empty, not absent: systemd takes absence for a first boot and asks questions on the console.
  put_file(etc / "machine-id", 0444, "");
  put_file(etc / "resolv.conf", 0644, "");
  put_file(etc / "fstab", 0644, "# The root disk and the workspace are mounted before systemd starts.\n");
  const auto var = inside(tree, "/var/x").parent_path();
  put_link(var / "lib" / "dbus" / "machine-id", "/etc/machine-id");
  fs::remove(var / "lib" / "systemd" / "random-seed", ignored);
  for (const auto* folder :
       {"log/apt", "cache/apt/archives", "lib/apt/lists", "cache/debconf", "tmp", "cache/ldconfig"})
    empty_folder(var / folder);
  for (const auto& entry : fs::recursive_directory_iterator(var / "log", ignored))
    if (entry.is_regular_file(ignored)) fs::remove(entry.path(), ignored);
  for (const auto* folder : {"/tmp/x", "/run/x", "/var/lib/dpkg/updates/x"})
    empty_folder(inside(tree, folder).parent_path());
  make_folders(var / "cache" / "apt" / "archives" / "partial");
  make_folders(var / "lib" / "apt" / "lists" / "partial");
}

}  // namespace

void settle_tree(const fs::path& tree, const Recipe& recipe, const std::vector<PackageSource>& sources) {
  forget_identity(tree);
  for (const auto& file : embedded_rootfs()) put_file(inside(tree, file.path), file.mode, file.content);
  add_agent(tree);
  set_units(tree, recipe);
  for (const auto& name : recipe.layers) set_layer(tree, image_layer(name));
  set_sources(tree, sources);
}

std::string unpack_kernel(const fs::path& tree, const fs::path& package, const fs::path& kernel_file) {
  const auto deadline = Deadline::after(std::chrono::minutes(5));
  auto pipe = make_pipe();
  auto source = Process::spawn(
      {.argv = {"dpkg-deb", "--fsys-tarfile", package.string()}, .fds = {{1, pipe.second.get()}, {2, STDERR_FILENO}}});
  pipe.second.reset();
  auto target = Process::spawn({.argv = {"tar", "-x", "--keep-directory-symlink", "--no-same-owner",
                                         "--exclude=./usr/share", "-C", tree.string()},
                                .fds = {{0, pipe.first.get()}, {2, STDERR_FILENO}}});
  pipe.first.reset();
  for (auto* child : {&source, &target}) {
    const auto status = child->wait(deadline);
    if (!status || !status->ok())
      throw Error(ErrorCode::operation_failed, fmt::format("cannot unpack the kernel package {}", package.string()));
  }
  const auto version = kernel_version(tree);
  const auto depmod = fs::path("/sbin/depmod");
  std::error_code ignored;
  if (fs::exists(inside(tree, depmod), ignored))
    run_checked({.argv = {"chroot", tree.string(), depmod.string(), version}}, deadline);
  else
    run_checked({.argv = {"depmod", "-b", tree.string(), version}}, deadline);
  std::error_code problem;
  fs::rename(tree / "boot" / ("vmlinuz-" + version), kernel_file, problem);
  if (problem) throw_errno("cannot take the kernel out of " + package.filename().string(), problem.value());
  check_errno(::chmod(kernel_file.c_str(), 0600), "cannot set the mode of the kernel");
  fs::remove(tree / "boot" / ("System.map-" + version), ignored);
  return version;
}

void make_disk(const fs::path& tree, const fs::path& disk, ByteSize size) {
  {
    const auto fd = open_file(disk, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    check_errno(::ftruncate(fd.get(), static_cast<off_t>(size.bytes())), "cannot size " + disk.string());
  }
  // The file is sparse, so its tables are zero already: saying so (lazy_*=0 with discard) spares the guest from writing
  // half a gigabyte of zeros into its overlay. No reserved blocks: root is no more important than the agent here.
  run_checked(
      {.argv = {"mke2fs", "-q", "-F", "-t", "ext4", "-L", "agentvm", "-m", "0", "-J", "size=64", "-E",
                "lazy_itable_init=0,lazy_journal_init=1,discard,root_owner=0:0", "-d", tree.string(), disk.string()}},
      Deadline::after(std::chrono::minutes(20)));
  const auto fd = open_file(disk, O_RDONLY | O_CLOEXEC);
  check_errno(::fsync(fd.get()), "cannot store " + disk.string());
}

}  // namespace agentvm
