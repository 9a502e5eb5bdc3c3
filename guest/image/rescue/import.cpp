#include "guest/image/rescue/import.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <sstream>

#include <fmt/format.h>
#include <guestfs.h>

#include "guest/image/embedded.hpp"
#include "guest/image/recipe.hpp"
#include "guest/image/rescue/answers.hpp"
#include "guest/image/settings.hpp"
#include "vmm/base/error.hpp"

namespace agentvm::rescue {
namespace {

constexpr const char* source = "/source";
constexpr const char* base = "/base";
/// Where the new disk is; what it holds is named as the guest will see it.
constexpr const char* target = "/target";
constexpr const char* target_device = "/dev/sdb";
constexpr const char* base_device = "/dev/sdc";  // all of it, without partitions, as ours are
constexpr std::size_t small_file_bytes = 1 << 20;
/// Where the default image's tmux and its libraries go, where the system has none: beside everything of its own.
constexpr const char* tmux_folder = "/usr/local/lib/agentvm/tmux";
/// Made anew by each start, or the boot loader's and the other kernel's.
constexpr const char* left_out[] = {"boot", "dev", "lost+found", "media", "mnt", "proc", "run", "sys", "tmp"};

/// What would wait at a start for what this machine has not, take its network away, or start what nobody asked for.
constexpr const char* foreign_units[] = {"NetworkManager.service",
                                         "NetworkManager-wait-online.service",
                                         "cloud-config.service",
                                         "cloud-final.service",
                                         "cloud-init-hotplugd.socket",
                                         "cloud-init-local.service",
                                         "cloud-init.service",
                                         "cloud-init.target",
                                         "dhcpcd.service",
                                         "firewalld.service",
                                         "multipathd.service",
                                         "multipathd.socket",
                                         "networking.service",
                                         "snapd.seeded.service",
                                         "snapd.service",
                                         "snapd.socket",
                                         "ssh.socket",
                                         "sshd-keygen.service",
                                         "sshd.socket",
                                         "systemd-networkd-wait-online.service",
                                         "systemd-networkd.service",
                                         "systemd-networkd.socket",
                                         "systemd-resolved.service",
                                         "ufw.service",
                                         "unattended-upgrades.service"};
constexpr const char* foreign_generators[] = {"cloud-init-generator",    "netplan",
                                              "ostree-system-generator", "sshd-socket-generator",
                                              "systemd-ssh-generator",   "zram-generator"};

class Import {
 public:
  Import(Appliance& appliance, const std::string& kernel_version, int memory, const Progress& progress)
      : appliance_(appliance), g_(appliance.handle()), version_(kernel_version), memory_(memory), progress_(progress) {}

  Json run() {
    report(progress_, "image-inspect", "looking for a system", 20);
    inspect();
    find_tmux();
    mount_all();
    copy();
    settle();
    check(guestfs_umount_all(g_), "unmounting the disks");
    check(guestfs_sync(g_), "writing the disk");
    return {{"system", system_}, {"warnings", warnings_}};
  }

 private:
  void check(int result, const std::string& what) {
    if (result != 0) appliance_.fail(what);
  }
  [[noreturn]] static void refuse(const std::string& why) { throw Error(ErrorCode::operation_failed, why); }

  void inspect() {
    const TextList found(guestfs_inspect_os(g_));
    if (!found) appliance_.fail("looking for a system on it");
    std::vector<std::string> roots;
    for (char** root = found.get(); *root; ++root)
      if (std::string_view(*root) != base_device) roots.emplace_back(*root);
    if (roots.empty()) refuse("no operating system was found on it");
    if (roots.size() > 1) refuse(fmt::format("it holds {} operating systems", roots.size()));
    root_ = roots.front();
    const auto told = [&](char* (*ask)(guestfs_h*, const char*)) {
      const Text answer(ask(g_, root_.c_str()));
      return std::string(answer ? answer.get() : "");
    };
    if (const auto kind = told(guestfs_inspect_get_type); kind != "linux")
      refuse("its system is " + kind + ", not Linux");
    if (const auto processor = told(guestfs_inspect_get_arch); processor != "x86_64")
      refuse("its system is for " + processor + " processors");
    // Of Debian it is the version alone.
    const auto distribution = told(guestfs_inspect_get_distro), product = told(guestfs_inspect_get_product_name);
    system_ = product.find(' ') == product.npos ? distribution + " " + product : product;
  }

  /// What the default image's own loader says that its tmux needs; nothing where that has none. It is the one program
  /// that is run here, from a root that we made, before anything of the other system is mounted.
  void find_tmux() {
    check(guestfs_mount_options(g_, "ro,nodev,nosuid", base_device, "/"), "mounting the default image");
    std::string ldd = "/usr/bin/ldd", tmux = "/usr/bin/tmux";
    char* words[] = {ldd.data(), tmux.data(), nullptr};
    const Text told(guestfs_is_file(g_, tmux.c_str()) == 1 ? guestfs_command(g_, words) : nullptr);
    std::istringstream lines(told ? told.get() : "");
    const auto add = [this](const std::string& file) {
      // A link may be absolute, which leads elsewhere once this root has another place.
      const Text real(guestfs_realpath(g_, file.c_str()));
      if (!real) appliance_.fail("reading the default image");
      tmux_files_[file.substr(file.rfind('/') + 1)] = real.get();
    };
    for (std::string line; std::getline(lines, line);)
      if (const auto begin = line.find('/'); begin != line.npos) add(line.substr(begin, line.find(' ', begin) - begin));
    const bool whole =
        told && !std::strstr(told.get(), "not found") &&
        std::any_of(tmux_files_.begin(), tmux_files_.end(), [](const auto& file) { return is_loader(file.first); });
    if (whole)
      add(tmux);
    else
      tmux_files_.clear();
    check(guestfs_umount_all(g_), "unmounting the default image");
  }

  static bool is_loader(const std::string& file) { return file.starts_with("ld-linux"); }

  /// Whether there can be programs of ours below /usr/local, and nowhere else because of a link.
  bool has_own_place() {
    for (const std::string folder : {"/usr/local", "/usr/local/bin", "/usr/local/lib", "/usr/local/lib/agentvm"})
      if (is_link(folder) || is_file(folder)) return false;
    return true;
  }

  /// With the new disk as root. The program is started through its own loader, with its own libraries, whatever C
  /// library the system has.
  void bring_tmux() {
    if (has_program("tmux") || tmux_files_.empty() || !has_own_place()) return;
    constexpr const char* place = "/mnt";
    check(guestfs_rm_rf(g_, tmux_folder), "making room for tmux");
    make_folder(tmux_folder);
    check(guestfs_mount_options(g_, "ro,nodev,nosuid,noexec", base_device, place), "mounting the default image");
    std::string loader;
    for (const auto& [name, file] : tmux_files_) {
      check(guestfs_cp(g_, (place + file).c_str(), fmt::format("{}/{}", tmux_folder, name).c_str()), "bringing tmux");
      if (is_loader(name)) loader = name;
    }
    check(guestfs_umount(g_, place), "unmounting the default image");
    write("/usr/local/bin/tmux", 0755,
          fmt::format("#!/bin/sh\nexec {0}/{1} --library-path {0} {0}/tmux \"$@\"\n", tmux_folder, loader));
  }

  void mount_all() {
    for (const auto* place : {source, target, base}) check(guestfs_mkmountpoint(g_, place), "preparing the appliance");
    const TextList points(guestfs_inspect_get_mountpoints(g_, root_.c_str()));
    if (!points) appliance_.fail("reading its fstab");
    std::vector<std::pair<std::string, std::string>> mounts;
    for (char** entry = points.get(); entry[0] && entry[1]; entry += 2) mounts.emplace_back(entry[0], entry[1]);
    std::sort(mounts.begin(), mounts.end(),
              [](const auto& a, const auto& b) { return a.first.size() < b.first.size(); });
    mount_read_only(root_, source, "its root");
    for (const auto& [point, device] : mounts)
      if (point != "/" && point != "/boot" && !point.starts_with("/boot/")) mount_beside(point, device);
    check(guestfs_mount_options(g_, "nodev,nosuid,noexec", target_device, target), "mounting the new disk");
    check(guestfs_mount_options(g_, "ro,nodev,nosuid,noexec", base_device, base), "mounting the default image");
  }

  void mount_read_only(const std::string& device, const std::string& where, const std::string& what) {
    check(guestfs_mount_options(g_, "ro,nodev,nosuid,noexec", device.c_str(), where.c_str()), "mounting " + what);
    mounted_.push_back(where);
  }

  /// What fstab says is text of the disk: a mount follows no link and leaves no folder of it, and one that cannot be
  /// mounted is told of.
  void mount_beside(const std::string& point, const std::string& device) {
    const auto where = source + point;
    const Text real(guestfs_realpath(g_, where.c_str()));
    try {
      if (!real || where != real.get()) refuse("it is no folder of it");
      mount_read_only(device, where, device);
    } catch (const Error& error) {
      warnings_.push_back(fmt::format("its {} did not come along: {}", point, error.message()));
    }
  }

  /// Bytes in use and to be had.
  std::pair<std::uint64_t, std::uint64_t> measure(const std::string& where) {
    const std::unique_ptr<struct guestfs_statvfs, decltype(&guestfs_free_statvfs)> told(
        guestfs_statvfs(g_, where.c_str()), &guestfs_free_statvfs);
    if (!told) appliance_.fail("measuring the disks");
    const auto blocks = [&](std::int64_t count) {
      constexpr std::int64_t most = std::int64_t{1} << 50;
      if (count < 0 || told->frsize < 1 || told->frsize > (1 << 20) || count > most / told->frsize)
        refuse("its file system has sizes that make no sense");
      return static_cast<std::uint64_t>(count) * static_cast<std::uint64_t>(told->frsize);
    };
    return {blocks(told->blocks - std::min(told->blocks, told->bfree)), blocks(told->bavail)};
  }

  void copy() {
    std::uint64_t wanted = 0;
    for (const auto& where : mounted_)
      if (where != base) wanted += measure(where).first;
    const auto free = measure(target).second;
    if (wanted > free) refuse(fmt::format("its system takes {} MiB, and {} are the most", wanted >> 20, free >> 20));
    int percent = 25;
    for (const auto& name : appliance_.list(source, memory_)) {
      if (std::find(std::begin(left_out), std::end(left_out), name) != std::end(left_out)) continue;
      report(progress_, "image-copy", "copying /" + name, percent = std::min(percent + 3, 80));
      check(guestfs_cp_a(g_, fmt::format("{}/{}", source, name).c_str(), target), "copying /" + name);
    }
    for (const auto* name : left_out)
      if (std::string_view(name) != "lost+found") make_folder(fmt::format("/{}", name));
    check(guestfs_chmod(g_, 01777, path("/tmp").c_str()), "making /tmp");
    report(progress_, "image-modules", "bringing the kernel's modules", 82);
    for (const auto* folder : {"/etc", "/usr", "/usr/lib"})
      if (is_link(folder)) refuse(fmt::format("its {} is a link", folder));
    if (is_link("/lib")) {
      const Text to(guestfs_readlink(g_, path("/lib").c_str()));
      if (!to || (std::string_view(to.get()) != "usr/lib" && std::string_view(to.get()) != "/usr/lib"))
        refuse("its /lib is a link to elsewhere than usr/lib");
    }
    const auto modules = is_link("/lib") ? "/usr/lib/modules" : "/lib/modules";
    check(guestfs_rm_rf(g_, path(modules).c_str()), "removing its kernel's modules");
    make_folder(modules);
    const auto ours = fmt::format("{}/usr/lib/modules/{}", base, version_);
    const auto theirs = fmt::format("{}/lib/modules/{}", base, version_);
    const bool merged = guestfs_is_dir(g_, ours.c_str()) == 1;
    check(guestfs_cp_a(g_, (merged ? ours : theirs).c_str(), path(modules).c_str()), "bringing the kernel's modules");
    // From here on links lead where they will in the guest.
    check(guestfs_umount_all(g_), "unmounting the disks");
    check(guestfs_mount_options(g_, "nodev,nosuid,noexec", target_device, "/"), "mounting the new disk");
    prefix_.clear();
    bring_tmux();
  }

  void settle() {
    report(progress_, "image-settings", "settings", 90);
    const bool starts = is_link("/sbin/init") || is_file("/sbin/init");
    if (!starts || !(is_file("/usr/lib/systemd/systemd") || is_file("/lib/systemd/systemd")))
      refuse("it does not start with systemd (/sbin/init, /usr/lib/systemd/systemd)");
    if (!is_file("/usr/sbin/sshd")) refuse("it has no OpenSSH server (/usr/sbin/sshd): without one nobody gets in");
    forget_identity();
    for (const auto& file : embedded_rootfs())
      if (!file.path.starts_with("/usr/local/") || has_own_place())
        write(std::string(file.path), file.mode, std::string(file.content));
    add_agent();
    set_units();
    for (const auto* program : {"tmux", "git", "sudo"})
      if (!has_program(program))
        warnings_.push_back(
            fmt::format("{} is not in it: install it in the sandbox (its package manager's sources are "
                        "reached by name only)",
                        program));
  }

  bool has_program(const std::string& name) {
    for (const auto* folder : {"/usr/bin/", "/bin/", "/usr/local/bin/"})
      if (guestfs_exists(g_, path(folder + name).c_str()) == 1) return true;
    return false;
  }

  void forget_identity() {
    const TextList keys(guestfs_glob_expand(g_, path("/etc/ssh/ssh_host_*").c_str()));
    if (keys)
      for (char** key = keys.get(); *key; ++key) check(guestfs_rm_f(g_, *key), "removing its host keys");
    write("/etc/machine-id", 0444, "");
    write("/etc/resolv.conf", 0644, "");
    write("/etc/fstab", 0644, "# The root disk and the workspace are mounted before systemd starts.\n");
    for (const auto* file : {"/etc/hostname", "/var/lib/systemd/random-seed"})
      check(guestfs_rm_f(g_, path(file).c_str()), "removing its identity");
    if (guestfs_is_dir(g_, path("/etc/cloud").c_str()) == 1) write("/etc/cloud/cloud-init.disabled", 0644, "");
    // Labels are lost in the copy, and nothing here makes them anew.
    if (is_file("/etc/selinux/config")) write("/etc/selinux/config", 0644, "SELINUX=disabled\nSELINUXTYPE=targeted\n");
  }

  void add_agent() {
    for (const auto* file : {"/etc/passwd", "/etc/shadow", "/etc/group"})
      if (!is_file(file)) refuse(fmt::format("its {} is no file", file));
    auto accounts = Accounts{read("/etc/passwd"), read("/etc/shadow"), read("/etc/group"), read("/etc/gshadow")};
    const auto shell = guestfs_exists(g_, path("/bin/bash").c_str()) == 1 ? "/bin/bash" : "/bin/sh";
    for (const auto& gone : add_agent_account(accounts, shell))
      warnings_.push_back(fmt::format("its user {} had the agent's id, and is the agent now", gone));
    const auto keep = [this](const char* file, unsigned mode, const std::string& text) {
      if (!text.empty()) overwrite(file, mode, text);
    };
    keep("/etc/passwd", 0644, accounts.passwd);
    keep("/etc/group", 0644, accounts.group);
    keep("/etc/shadow", 0640, accounts.shadow);
    keep("/etc/gshadow", 0640, accounts.gshadow);
    for (const auto* file : {"/etc/subuid", "/etc/subgid"}) {
      auto text = read(file);
      if (!text.empty() && text.back() != '\n') text += '\n';
      write(file, 0644, text + "agent:100000:65536\n");
    }
    check(guestfs_rm_rf(g_, path("/home/agent").c_str()), "making the agent's home");
    make_folder("/home");
    if (guestfs_is_dir(g_, path("/etc/skel").c_str()) == 1)
      check(guestfs_cp_a(g_, path("/etc/skel").c_str(), path("/home/agent").c_str()), "making the agent's home");
    make_folder("/home/agent/.ssh");
    write("/home/agent/.ssh/authorized_keys", 0600, "");
    check(guestfs_chmod(g_, 0700, path("/home/agent/.ssh").c_str()), "making the agent's home");
    own("/home/agent");
    for (const auto& name : appliance_.find(path("/home/agent"), memory_)) own("/home/agent/" + name);
    make_folder("/workspace");
    own("/workspace");
  }

  void set_units() {
    const std::string units = "/etc/systemd/system";
    for (const auto& unit : parse_recipe(std::string(embedded_recipe()), "the default recipe").mask)
      link("/dev/null", units + "/" + unit);
    for (const auto* unit : foreign_units) link("/dev/null", fmt::format("{}/{}", units, unit));
    for (const auto* name : idle_generators)
      link("/dev/null", fmt::format("/etc/systemd/system-generators/systemd-{}-generator", name));
    for (const auto* name : foreign_generators)
      link("/dev/null", fmt::format("/etc/systemd/system-generators/{}", name));
    const auto systemd = is_link("/lib") ? "/usr/lib/systemd/system" : "/lib/systemd/system";
    link(fmt::format("{}/multi-user.target", systemd), units + "/default.target");
    link(units + "/ssh.service", units + "/sysinit.target.wants/ssh.service");
    link(units + "/ssh.service", units + "/sshd.service");
    for (const auto* unit : {"ssh.service", "sshd.service"})
      check(guestfs_rm_f(g_, path(fmt::format("{}/multi-user.target.wants/{}", units, unit)).c_str()),
            "settling units");
  }

  // --- files of the new disk, by the names that the guest will know ---

  std::string path(const std::string& name) const { return prefix_ + name; }

  bool is_file(const std::string& name) { return guestfs_is_file(g_, path(name).c_str()) == 1; }

  bool is_link(const std::string& name) { return guestfs_is_symlink(g_, path(name).c_str()) == 1; }

  void make_folder(const std::string& name) { check(guestfs_mkdir_p(g_, path(name).c_str()), "making " + name); }

  void make_parent(const std::string& name) { make_folder(name.substr(0, std::max<std::size_t>(1, name.rfind('/')))); }

  std::string read(const std::string& name) {
    const auto file = path(name);
    if (guestfs_is_file(g_, file.c_str()) != 1) return "";
    return appliance_.read(file, memory_, small_file_bytes);
  }

  void write(const std::string& name, unsigned mode, const std::string& content) {
    make_parent(name);
    check(guestfs_rm_f(g_, path(name).c_str()), "replacing " + name);
    overwrite(name, mode, content);
    check(guestfs_chown(g_, 0, 0, path(name).c_str()), "writing " + name);
  }

  /// Keeps its owner: groups that may read a shadow file have another number in each distribution.
  void overwrite(const std::string& name, unsigned mode, const std::string& content) {
    check(guestfs_write(g_, path(name).c_str(), content.data(), content.size()), "writing " + name);
    check(guestfs_chmod(g_, static_cast<int>(mode), path(name).c_str()), "writing " + name);
  }

  void link(const std::string& to, const std::string& name) {
    make_parent(name);
    check(guestfs_rm_rf(g_, path(name).c_str()), "replacing " + name);
    check(guestfs_ln_sf(g_, to.c_str(), path(name).c_str()), "linking " + name);
  }

  void own(const std::string& name) {
    check(guestfs_lchown(g_, agent_uid, agent_gid, path(name).c_str()), "giving " + name + " to the agent");
  }

  Appliance& appliance_;
  guestfs_h* const g_;
  const std::string version_;
  const int memory_;
  const Progress& progress_;
  std::string root_, system_;
  std::string prefix_ = target;       // of the new disk's names; nothing once it is all that is mounted
  std::vector<std::string> mounted_;  // of the source, in order
  std::vector<std::string> warnings_;
  std::map<std::string, std::string>
      tmux_files_;  // of the default image: what they are asked for as, and where they are
};

}  // namespace

Json import_system(Appliance& appliance, const std::string& kernel_version, int memory, const Progress& progress) {
  return Import(appliance, kernel_version, memory, progress).run();
}

}  // namespace agentvm::rescue
