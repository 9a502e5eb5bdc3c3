// Row 12 of the threat model: disk images that others made, some of them to do harm. A real appliance imports those
// that are let through; what makes the others is qemu-img.
#include "guest/image/import.hpp"

#include <cstdlib>
#include <functional>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/image/foreign_disk.hpp"
#include "guest/image/store.hpp"
#include "tests/support/temporary_folder.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/process.hpp"

namespace agentvm {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

Deadline limit() {
  return Deadline::after(std::chrono::minutes(6));
}

class ImportTest : public testing::Test {
 protected:
  ImportTest() {
    ensure_private_dir(dir / "images");
    fs::create_directories(dir / "outside");
    write_file_atomic(dir / "outside/canary", "untouched");
  }
  void TearDown() override {
    EXPECT_EQ(read_file(dir / "outside/canary"), "untouched");
    EXPECT_FALSE(fs::exists(dir / "s")) << "the sockets are gone";
    EXPECT_THAT(leftovers(dir / "images"), IsEmpty());
  }

  static Image base() {
    const auto found = read_image(fs::canonical(std::getenv("AGENTVM_TEST_IMAGE")));
    if (!found) throw Error(ErrorCode::not_found, "no image to test with");
    return *found;
  }
  ImportRequest request(const fs::path& file) {
    return {.file = file,
            .name = "cloud",
            .images = dir / "images",
            .base = linked_base(),
            .libexec = AGENTVM_LIBEXEC,
            .appliances = AGENTVM_TEST_CACHE,
            .sockets = dir / "s"};
  }
  /// Kernel and initrd are linked from the base: it has to be on our file system.
  Image linked_base() {
    auto image = base();
    const auto copy = dir / "base" / image.digest;
    if (!fs::exists(copy)) {
      fs::create_directories(copy);
      for (const char* file : {"kernel", "initrd", "modules.cpio", "image.json"})
        fs::copy_file(image.folder / file, copy / file);
      fs::create_symlink(image.root, copy / "root.raw");
    }
    image.folder = copy;
    return image;
  }
  std::optional<Error> problem(const fs::path& file, Deadline deadline = limit()) {
    auto error = test::error_of([&] { import_image(request(file), no_progress(), deadline); });
    if (error) {
      for (const unsigned char c : std::string(error->what())) EXPECT_TRUE(c >= 0x20 && c != 0x7f) << error->what();
    }
    return error;
  }
  fs::path qemu_img(const std::vector<std::string>& words) {
    ProcessSpec spec{.argv = {"qemu-img"}, .cwd = dir.path().string()};
    spec.argv.insert(spec.argv.end(), words.begin(), words.end());
    run_checked(spec, limit());
    return dir / "disk";
  }

  /// What inspection and we ask for of a Linux system; nothing in it runs.
  void make_system(const fs::path& root) {
    for (const char* folder : {"etc/ssh", "etc/skel", "bin", "sbin", "usr/bin", "usr/sbin", "usr/lib/systemd/system",
                               "lib", "var/lib", "boot", "home", "root", "tmp", "dev", "proc", "sys", "run"})
      fs::create_directories(root / folder);
    const auto put = [&](const char* file, const std::string& text) { write_file_atomic(root / file, text, 0644); };
    put("etc/os-release", "ID=fedora\nNAME=\"Fedora Linux\"\nVERSION_ID=40\nPRETTY_NAME=\"Fedora Linux 40 (Cloud)\"\n");
    put("etc/redhat-release", "Fedora release 40 (Forty)\n");
    put("etc/fstab", "LABEL=system / ext4 defaults 1 1\nLABEL=homes /home ext4 defaults 1 2\n");
    put("etc/passwd", "root:x:0:0:root:/root:/bin/bash\nfedora:x:1000:1000::/home/fedora:/bin/bash\n");
    put("etc/shadow", "root:!::0:99999:7:::\nfedora:!::0:99999:7:::\n");
    put("etc/group", "root:x:0:\nwheel:x:10:fedora\nfedora:x:1000:\n");
    put("etc/gshadow", "root:::\nwheel:::fedora\nfedora:!::\n");
    put("etc/ssh/ssh_host_rsa_key", "theirs");
    put("etc/skel/.bashrc", "alias\n");
    put("usr/lib/systemd/systemd", "x");
    put("usr/sbin/sshd", "x");
    fs::copy_file("/bin/true", root / "bin/ls");
    fs::create_symlink("/usr/lib/systemd/systemd", root / "sbin/init");
  }
  /// A disk with a partition for each tree (and label), as raw.
  fs::path make_disk(const std::vector<std::pair<fs::path, std::string>>& trees) {
    constexpr std::uint64_t part_bytes = 48u << 20, first = 1u << 20;
    std::string table(512, '\0');
    const auto number = [&](std::size_t at, std::uint32_t value) {
      for (std::size_t i = 0; i < 4; ++i) table[at + i] = static_cast<char>(value >> 8 * i);
    };
    table[510] = '\x55';
    table[511] = '\xaa';
    const auto disk = dir / "disk";
    write_file_atomic(disk, "");
    fs::resize_file(disk, first + part_bytes * trees.size());
    for (std::size_t i = 0; i < trees.size(); ++i) {
      const auto at = first + part_bytes * i;
      table[446 + 16 * i + 4] = '\x83';
      number(446 + 16 * i + 8, static_cast<std::uint32_t>(at / 512));
      number(446 + 16 * i + 12, static_cast<std::uint32_t>(part_bytes / 512));
      const auto part = dir / "part";
      run_checked({.argv = {"mke2fs", "-q", "-F", "-t", "ext4", "-L", trees[i].second, "-d", trees[i].first.string(),
                            part.string(), "48M"}},
                  limit());
      run_checked({.argv = {"dd", "status=none", "conv=notrunc,sparse", "bs=1M", "if=" + part.string(),
                            "of=" + disk.string(), "seek=" + std::to_string(at >> 20)}},
                  limit());
      fs::remove(part);
    }
    const auto fd = open_file(disk, O_WRONLY | O_CLOEXEC);
    write_all(fd.get(), table, limit());
    return disk;
  }
  static std::string debugfs(const Image& image, const std::string& command) {
    return run({.argv = {"debugfs", "-R", command, image.root.string()}}, limit()).out;
  }

  test::TemporaryFolder dir;
};

TEST_F(ImportTest, WhatNamesOtherFilesIsRefusedUnopened) {
  // Who opens a pipe waits for its other end.
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  const std::string pipe = (dir / "pipe").string(),
                    json = "json:{\"driver\":\"raw\",\"file\":{\"filename\":\"" + pipe + "\"}}";
  const std::vector<std::pair<std::vector<std::string>, const char*>> rows = {
      {{"create", "-q", "-u", "-f", "qcow2", "-b", pipe, "-F", "raw", "disk", "1G"}, "backing file"},
      {{"create", "-q", "-u", "-f", "qcow2", "-b", json, "-F", "raw", "disk", "1G"}, "backing file"},
      {{"create", "-q", "-u", "-f", "qcow2", "-b", "nbd://127.0.0.1:9", "-F", "raw", "disk", "1G"}, "backing file"},
      {{"create", "-q", "-f", "qcow2", "-o", "data_file=data,data_file_raw=on", "disk", "64M"}, "in another file"},
      {{"create", "-q", "-f", "qcow2", "-o", "size=2T", "disk"}, "are the most"},
      {{"create", "-q", "-f", "qcow2", "--object", "secret,id=s,data=x", "-o",
        "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", "disk", "64M"},
       "encrypted"},
      {{"create", "-q", "-f", "vmdk", "disk", "64M"}, "VMDK"},
      {{"create", "-q", "-f", "vdi", "disk", "64M"}, "VDI"},
      {{"create", "-q", "-f", "vhdx", "disk", "64M"}, "VHDX"},
      {{"create", "-q", "-f", "vpc", "disk", "64M"}, "VHD"},
      {{"create", "-q", "-f", "qed", "disk", "64M"}, "QED"},
      {{"create", "-q", "-f", "parallels", "disk", "64M"}, "Parallels"},
  };
  for (const auto& [words, why] : rows) {
    const auto error = problem(qemu_img(words), Deadline::after(std::chrono::minutes(1)));
    ASSERT_TRUE(error) << why;
    ASSERT_EQ(error->code(), ErrorCode::operation_failed) << error->what();
    EXPECT_THAT(error->message(), HasSubstr(why));
    for (const char* made : {"disk", "data"}) fs::remove(dir / made);
  }
  qemu_img({"create", "-q", "-f", "qcow2", "disk", "64M"});
  EXPECT_EQ(check_foreign_disk(dir / "disk").size_bytes, 64u << 20) << "a plain one is taken";
  qemu_img({"snapshot", "-c", "one", "disk"});
  EXPECT_THAT(problem(dir / "disk")->message(), HasSubstr("snapshots"));
}

TEST_F(ImportTest, NamesThatCannotBeGivenAreRefusedFirst) {
  write_file_atomic(dir / "disk", "");
  fs::resize_file(dir / "disk", 1u << 20);
  for (const char* name : {"", "a", "../x", "-x", "A b", "default"}) {
    auto wanted = request(dir / "disk");
    wanted.name = name;
    EXPECT_EQ(test::error_of([&] { import_image(wanted, no_progress(), limit()); })->code(), ErrorCode::usage) << name;
  }
  EXPECT_EQ(problem(dir / "absent")->code(), ErrorCode::not_found);
}

TEST_F(ImportTest, ADiskWithoutASystemIsRefused) {
  fs::create_directories(dir / "empty");
  const auto error = problem(make_disk({{dir / "empty", "data"}}));
  ASSERT_TRUE(error);
  EXPECT_THAT(error->message(), HasSubstr("no operating system was found on it"));
}

/// The layout alone: partitions, fstab, accounts. No such distribution's packages are to be had here.
TEST_F(ImportTest, ASystemOnSeveralPartitionsComesWhole) {
  const auto root = dir / "root", homes = dir / "homes";
  make_system(root);
  fs::create_directories(homes / "fedora");
  write_file_atomic(homes / "fedora/note", "mine");
  const auto disk = make_disk({{homes, "homes"}, {root, "system"}});
  const auto before = read_file(disk, 256u << 20);
  const auto imported = import_image(request(disk), no_progress(), limit());
  EXPECT_TRUE(read_file(disk, 256u << 20) == before) << "the file was written";
  const auto& image = imported.image;
  EXPECT_EQ(image.name, "cloud");
  EXPECT_EQ(image.imported, "Fedora Linux 40 (Cloud)");
  EXPECT_EQ(image.damage, "");
  EXPECT_EQ(find_damage(image, limit()), "");
  EXPECT_EQ(image.kernel_version, base().kernel_version);
  EXPECT_THAT(imported.warnings, Contains(HasSubstr("its user fedora had the agent's id")));
  for (const char* program : {"git", "sudo"}) EXPECT_THAT(imported.warnings, Contains(HasSubstr(program)));
  EXPECT_THAT(imported.warnings, Not(Contains(HasSubstr("tmux")))) << "it got ours";
  EXPECT_THAT(debugfs(image, "cat /usr/local/bin/tmux"), HasSubstr("--library-path /usr/local/lib/agentvm/tmux "));
  for (const char* file : {"ld-linux-x86-64.so.2", "libc.so.6", "tmux"})
    EXPECT_THAT(debugfs(image, std::string("stat /usr/local/lib/agentvm/tmux/") + file), HasSubstr("Type: regular"));
  EXPECT_EQ(run({.argv = {"e2fsck", "-fn", image.root.string()}}, limit()).status.code, 0);
  EXPECT_EQ(debugfs(image, "cat /home/fedora/note"), "mine");
  EXPECT_EQ(debugfs(image, "cat /etc/passwd"),
            "root:x:0:0:root:/root:/bin/bash\nagent:x:1000:1000:agent:/home/agent:/bin/sh\n");
  EXPECT_EQ(debugfs(image, "cat /etc/group"), "root:x:0:\nwheel:x:10:fedora,agent\nagent:x:1000:\n");
  EXPECT_THAT(debugfs(image, "stat /home/agent/.bashrc"), HasSubstr("User:  1000   Group:  1000"));
  EXPECT_THAT(debugfs(image, "stat /home/agent/.ssh"), HasSubstr("Mode:  0700"));
  EXPECT_THAT(debugfs(image, "stat /etc/sudoers.d/agent"), HasSubstr("Mode:  0440"));
  EXPECT_THAT(debugfs(image, "stat /etc/systemd/system/cloud-init.service"), HasSubstr("\"/dev/null\""));
  EXPECT_THAT(debugfs(image, "ls -p /etc/ssh"), Not(HasSubstr("ssh_host")));
  EXPECT_THAT(debugfs(image, "cat /etc/ssh/sshd_config"), HasSubstr("PasswordAuthentication no"));
  EXPECT_THAT(debugfs(image, "ls -p /lib/modules"), HasSubstr(image.kernel_version));
  EXPECT_THAT(debugfs(image, "cat /etc/fstab"), Not(HasSubstr("LABEL")));
  const auto again = test::error_of([&] { import_image(request(disk), no_progress(), limit()); });
  ASSERT_TRUE(again);
  EXPECT_EQ(again->code(), ErrorCode::wrong_state);
}

/// What its fstab says follows no link and leaves no folder, and what cannot be mounted is told of; links lead where
/// they will in the guest, and what it says is cleaned.
TEST_F(ImportTest, AHostileSystemHarmsNothing) {
  const auto root = dir / "root", other = dir / "other";
  make_system(root);
  fs::create_directories(other);
  write_file_atomic(other / "passwd", "theirs");
  const auto outside = (dir / "outside").string();
  write_file_atomic(root / "etc/os-release", "ID=fedora\nVERSION_ID=40\nPRETTY_NAME=\"x \033]0;owned\007\033[2J y\"\n");
  write_file_atomic(root / "etc/fstab",
                    "LABEL=system / ext4 defaults 1 1\n/dev/sdz9 /data ext4 defaults 0 0\nLABEL=other /../../etc ext4 "
                    "defaults 0 0\nLABEL=other /trap ext4 defaults 0 0\n");
  fs::create_directory_symlink("/etc", root / "trap");
  for (const char* gone : {"etc/ssh", "etc/skel"}) remove_tree(root / gone);
  fs::create_directory_symlink(outside, root / "etc/skel");
  fs::create_symlink(outside + "/canary", root / "etc/machine-id");
  fs::create_symlink("/proc/self/fd/1", root / "etc/resolv.conf");
  fs::create_symlink(outside + "/canary", root / "etc/hostname");
  fs::create_directory_symlink("/etc", root / "home/agent");
  fs::create_directory_symlink("/proc", root / "usr/local");
  ASSERT_EQ(::mkfifo((root / "etc/subuid").c_str(), 0600), 0);
  run_checked({.argv = {"sh", "-c", "cp /bin/true suid && chmod 6755 suid"}, .cwd = root.string()}, limit());
  const auto imported = import_image(request(make_disk({{root, "system"}, {other, "other"}})), no_progress(), limit());
  EXPECT_EQ(imported.image.imported.find('\033'), std::string::npos);
  for (const auto& warning : imported.warnings) EXPECT_EQ(warning.find('\033'), std::string::npos);
  EXPECT_THAT(imported.warnings, Contains(HasSubstr("its /trap did not come along")));
  EXPECT_THAT(imported.warnings, Contains(HasSubstr("tmux"))) << "it has no place of its own for ours";
  EXPECT_THAT(debugfs(imported.image, "cat /etc/passwd"), HasSubstr("agent:x:1000:1000"));
  EXPECT_THAT(debugfs(imported.image, "stat /etc/machine-id"), HasSubstr("Type: regular"));
  EXPECT_THAT(debugfs(imported.image, "stat /home/agent"), HasSubstr("Type: directory"));
  EXPECT_EQ(std::distance(fs::directory_iterator(dir / "outside"), {}), 1) << "something was written outside";
  // Programs of this host read modules from the image that the kernel came from, never from this one.
  EXPECT_TRUE(fs::equivalent(imported.image.modules_root, fs::canonical(base().root)) ||
              imported.image.modules_root.filename() == base_root_file);
  EXPECT_NE(imported.image.modules_root, imported.image.root);
}

TEST_F(ImportTest, WhatCannotBeAGuestIsRefused) {
  const auto root = dir / "root";
  make_system(root);
  remove_tree(root / "lib");
  fs::create_directory_symlink("evil", root / "lib");
  fs::create_directories(root / "evil/modules");
  EXPECT_THAT(problem(make_disk({{root, "system"}}))->message(), HasSubstr("its /lib is a link to elsewhere"));
  fs::remove(root / "lib");
  fs::create_directories(root / "lib");
  fs::remove(root / "etc/passwd");
  fs::resize_file(root / "etc/shadow", std::uint64_t{40} << 20);  // holes: nothing on the disk, much in memory
  fs::create_symlink("/etc/shadow", root / "etc/passwd");
  EXPECT_THAT(problem(make_disk({{root, "system"}}))->message(), HasSubstr("its /etc/passwd is no file"));
}

TEST_F(ImportTest, OneThatIsCalledOffLeavesNothing) {
  fs::create_directories(dir / "empty");
  const auto disk = make_disk({{dir / "empty", "data"}});
  const auto error =
      test::error_of([&] { import_image(request(disk), no_progress(), Deadline::after(milliseconds(4'000))); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::timed_out) << error->what();
  std::stop_source stop;
  auto wanted = request(disk);
  wanted.stop = stop.get_token();
  const auto cancelled = test::error_of([&] {
    import_image(
        wanted,
        [&](const ProgressEvent& event) {
          if (event.step == "image-appliance") stop.request_stop();
        },
        limit());
  });
  ASSERT_TRUE(cancelled);
  EXPECT_EQ(cancelled->code(), ErrorCode::cancelled) << cancelled->what();
}

}  // namespace
}  // namespace agentvm
