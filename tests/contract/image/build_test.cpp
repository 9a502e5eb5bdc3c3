// The whole build on a tree of a few files: everything is real (namespaces, dpkg-deb, depmod, mke2fs, the programs of
// ours) but the archive: a program named mmdebstrap, first in PATH, stands in for half a gigabyte of downloads. The
// real archive is the business of the e2e suite.

#include <csignal>
#include <cstdlib>
#include <functional>
#include <thread>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/image/images.hpp"
#include "guest/image/store.hpp"
#include "tests/support/temporary_folder.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/process.hpp"

namespace agentvm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

const char* const stand_in = R"(#!/bin/sh
# mmdebstrap OPTION... SUITE TREE -
set -e
for argument; do [ "$argument" = - ] || tree=$argument; done
here=$(dirname "$0")
echo call >> "$here/calls"
for argument; do printf '%s\n' "$argument"; done > "$here/argv.seen"
if [ -e "$here/fail" ]; then cat "$here/fail"; exit 1; fi
cat > "$TMPDIR/sources.list"
cp "$TMPDIR/sources.list" "$here/sources.seen"
env > "$here/env.seen"
(sleep 4321 &) # a daemon that a package starts and forgets
echo "0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded."
mkdir -p "$tree/usr/lib" "$tree/etc/ssh" "$tree/etc/skel" "$tree/etc/apt/sources.list.d" "$tree/var/log/apt" "$tree/var/lib/dbus" "$tree/tmp" "$tree/run"
ln -s usr/lib "$tree/lib"
mkdir -p "$tree/etc/systemd/system/multi-user.target.wants"
ln -s /lib/systemd/system/libvirtd.service "$tree/etc/systemd/system/multi-user.target.wants/libvirtd.service"
printf 'root:x:0:0:root:/root:/bin/bash\n' > "$tree/etc/passwd"
printf 'root:*:1::::::\n' > "$tree/etc/shadow"
printf 'root:x:0:\nadm:x:4:\nsudo:x:27:other\nlibvirt:x:120:\n' > "$tree/etc/group"
printf 'root:*::\nadm:*::\nsudo:*::other\n' > "$tree/etc/gshadow"
echo canary-host-key > "$tree/etc/ssh/ssh_host_rsa_key"
echo canary-machine-id > "$tree/etc/machine-id"
echo canary-resolver > "$tree/etc/resolv.conf"
echo canary-log > "$tree/var/log/apt/term.log"
echo third-party > "$tree/etc/apt/sources.list.d/x.list"
echo alias > "$tree/etc/skel/.bashrc"
echo "Unpacking one"
sleep 0.1
k="$TMPDIR/k"; m="$k/lib/modules/6.1.0-1/kernel"
mkdir -p "$k/DEBIAN" "$k/boot" "$m"
printf 'Package: linux-image-6.1.0-1\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n' > "$k/DEBIAN/control"
echo kernel > "$k/boot/vmlinuz-6.1.0-1"
for name in ext4 virtio_pci virtio_blk virtio_console virtio_net virtiofs unix; do echo "kernel/$name.ko" ; done > "$m/../modules.builtin"
touch "$m/../modules.order"
dpkg-deb -b "$k" "$AGENTVM_KERNEL_FOLDER/k.deb" > /dev/null
echo "Setting up one"
sleep 0.1
)";

std::string static_program(char version) {
  std::string program(64 + 56, '\0');
  program.replace(0, 5, "\177ELF\2");
  program[32] = 64;
  program[54] = 56;
  program[56] = 1;
  program[64] = 1;
  return program + version;
}

/// Whether `needle` is in the parts of a sparse file that are not holes.
bool holds(const fs::path& file, std::string_view needle) {
  const auto fd = open_file(file, O_RDONLY | O_CLOEXEC);
  for (off_t at = 0, hole = 0; (at = ::lseek(fd.get(), hole, SEEK_DATA)) >= 0;) {
    hole = ::lseek(fd.get(), at, SEEK_HOLE);
    std::string data(static_cast<std::size_t>(hole - at), '\0');
    if (::pread(fd.get(), data.data(), data.size(), at) != hole - at) throw std::runtime_error("short read");
    if (data.find(needle) != std::string::npos) return true;
  }
  return false;
}

class ImageBuild : public ::testing::Test {
 protected:
  fs::path folder_ = fs::temp_directory_path() / ("image-build-" + random_hex(6));
  ImageRequest request_{.images = folder_ / "data" / "images",
                        .cache = folder_ / "data" / "cache",
                        .libexec = folder_ / "libexec",
                        .recipe = folder_ / "recipe.yaml",
                        .apt = folder_ / "apt",
                        .mode = BuildMode::reuse};
  std::string path_ = std::getenv("PATH");

  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "the stand-in tree is made by root; users are covered by the e2e suite";
    for (const auto* part : {"bin", "data", "libexec", "apt"}) fs::create_directories(folder_ / part);
    write_file_atomic(folder_ / "bin/mmdebstrap", stand_in, 0755);
    write_file_atomic(folder_ / "apt/sources.list", "deb http://user:canary@mirror.example/debian bookworm main\n");
    write_file_atomic(request_.recipe,
                      "name: tiny\nsuite: bookworm\nkernel: linux-image-cloud-amd64\ndisk: 4G\npackages: [git]\nmask: "
                      "[fstrim.timer]\n");
    fs::copy_file(fs::path(AGENTVM_LIBEXEC) / "agentvm-image", folder_ / "libexec/agentvm-image");
    guest_program('1');
    ::setenv("PATH", (folder_ / "bin").string().append(":" + path_).c_str(), 1);
  }
  void TearDown() override {
    ::setenv("PATH", path_.c_str(), 1);
    remove_tree(folder_);
  }

  void guest_program(char version) {
    write_file_atomic(folder_ / "libexec/agentvm-guest", static_program(version), 0755);
  }
  static Deadline soon() { return Deadline::after(std::chrono::seconds(60)); }
  Image build() { return ensure_image(request_, no_progress(), soon()); }
  std::size_t calls() const { return read_file_if_exists(folder_ / "bin/calls").value_or("").size() / 5; }

  std::string debugfs(const Image& image, const std::string& command) const {
    return run({.argv = {"debugfs", "-R", command, image.root.string()}}, soon()).out;
  }

  Process start_build(int out) {
    return Process::spawn({.argv = {(folder_ / "libexec/agentvm-image").string(), "build", "--images",
                                    request_.images.string(), "--cache", request_.cache.string(), "--apt",
                                    request_.apt.string(), "--recipe", request_.recipe.string()},
                           .fds = {{1, out}}});
  }

  /// Processes that hold a file below our folder open, or run in it: what a killed build must not leave.
  std::vector<std::string> survivors() const {
    std::vector<std::string> found;
    std::error_code ignored;
    for (const auto& process : fs::directory_iterator("/proc", ignored)) {
      const auto name = process.path().filename().string();
      if (name.find_first_not_of("0123456789") != std::string::npos || name == std::to_string(::getpid())) continue;
      const auto cwd = fs::read_symlink(process.path() / "cwd", ignored).string();
      if (cwd.starts_with(folder_.string())) found.push_back(name + " in " + cwd);
    }
    return found;
  }
  void expect_clean() {
    for (int i = 0; i < 250 && !survivors().empty(); ++i) std::this_thread::sleep_for(milliseconds(20));
    EXPECT_THAT(survivors(), IsEmpty());
    EXPECT_THAT(read_file("/proc/self/mounts"), Not(HasSubstr(folder_.string())));
    EXPECT_THAT(list_images(request_.images), IsEmpty());
  }
};

TEST_F(ImageBuild, MakesACompleteImage) {
  std::vector<std::string> steps;
  const auto image = ensure_image(
      request_,
      [&](const ProgressEvent& event) {
        if (steps.empty() || steps.back() != event.step) steps.push_back(event.step);
      },
      soon());
  EXPECT_THAT(steps, ElementsAre("image-packages", "image-settings", "image-disk", "image-store"));
  EXPECT_EQ(image.folder, request_.images / image.digest);
  EXPECT_EQ(image.name, "tiny");
  EXPECT_EQ(image.kernel_version, "6.1.0-1");
  EXPECT_EQ(read_file(image.kernel), "kernel\n");
  EXPECT_EQ(fs::file_size(image.root), 4ull << 30);
  EXPECT_LT(image.size_bytes, 64u << 20);
  EXPECT_THAT(read_file(image.initrd), HasSubstr("lib/agentvm/modules.list"));
  EXPECT_TRUE(run({.argv = {"e2fsck", "-fn", image.root.string()}}, soon()).status.ok());
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(image.folder)) files.push_back(entry.path().filename().string());
  EXPECT_THAT(files, ::testing::UnorderedElementsAre("kernel", "initrd", "root.raw", "modules.cpio", "image.json"));
  EXPECT_THAT(leftovers(request_.images), IsEmpty());
  EXPECT_THAT(survivors(), IsEmpty());
}

TEST_F(ImageBuild, TheDiskHasTheAgentAndItsSettings) {
  const auto image = build();
  EXPECT_THAT(debugfs(image, "cat /etc/passwd"), HasSubstr("\nagent:x:1000:1000:agent:/home/agent:/bin/bash\n"));
  EXPECT_THAT(debugfs(image, "cat /etc/shadow"), HasSubstr("\nagent:*:"));
  EXPECT_THAT(debugfs(image, "cat /etc/group"), HasSubstr("\nsudo:x:27:other,agent\n"));
  EXPECT_THAT(debugfs(image, "cat /etc/group"), HasSubstr("\nadm:x:4:agent\n"));
  EXPECT_THAT(debugfs(image, "stat /home/agent/.bashrc"), HasSubstr("User:  1000   Group:  1000"));
  EXPECT_THAT(debugfs(image, "stat /workspace"), HasSubstr("User:  1000   Group:  1000"));
  EXPECT_THAT(debugfs(image, "stat /home/agent/.ssh"), HasSubstr("Mode:  0700"));
  EXPECT_THAT(debugfs(image, "stat /etc/sudoers.d/agent"), HasSubstr("Mode:  0440"));
  EXPECT_THAT(debugfs(image, "stat /etc/systemd/system/fstrim.timer"), HasSubstr("Fast link dest: \"/dev/null\""));
  EXPECT_THAT(debugfs(image, "cat /etc/apt/sources.list"),
              HasSubstr("deb http://mirror.example/debian bookworm main\n"));
}

TEST_F(ImageBuild, ALayerBringsItsFilesUnitsAndGroupsAndIsAnotherImage) {
  const auto plain = build();
  request_.layers = {"hypervisor", "containers"};
  const auto image = build();
  EXPECT_EQ(image.name, "tiny+containers+hypervisor");
  EXPECT_NE(image.digest, plain.digest);
  EXPECT_EQ(calls(), 2u);
  request_.layers = {"containers", "hypervisor"};
  EXPECT_EQ(ensure_image(request_, no_progress(), soon()).digest, image.digest) << "their order says nothing";
  EXPECT_EQ(calls(), 2u);
  const auto packages = read_file(folder_ / "bin/argv.seen");
  for (const auto* package : {"podman", "qemu-system-x86", "git"}) EXPECT_THAT(packages, HasSubstr(package));
  EXPECT_THAT(debugfs(image, "cat /etc/group"), HasSubstr("\nlibvirt:x:120:agent\n"));
  EXPECT_THAT(debugfs(plain, "cat /etc/group"), HasSubstr("\nlibvirt:x:120:\n"));
  EXPECT_THAT(debugfs(image, "cat /etc/containers/containers.conf"), HasSubstr("allow_host_loopback=true"));
  EXPECT_THAT(debugfs(image, "stat /usr/local/bin/podman"), HasSubstr("Mode:  0755"));
  EXPECT_THAT(debugfs(image, "ls -p /etc/systemd/system/multi-user.target.wants"), Not(HasSubstr("libvirtd.service")));
  EXPECT_THAT(debugfs(plain, "ls -p /etc/systemd/system/multi-user.target.wants"), HasSubstr("libvirtd.service"));
  EXPECT_THAT(debugfs(image, "ls -p /etc/systemd/system/sockets.target.wants"), HasSubstr("agentvm-podman.socket"));
  EXPECT_THAT(debugfs(image, "ls -p /etc/systemd/system/multi-user.target.wants"), HasSubstr("agentvm-user.service"));
  EXPECT_THAT(debugfs(plain, "stat /etc/containers"), Not(HasSubstr("Mode:")));
}

TEST_F(ImageBuild, NothingOfTheBuildOrItsHostIsInTheDisk) {
  const auto image = build();
  EXPECT_THAT(debugfs(image, "stat /etc/machine-id"), HasSubstr("Size: 0"));
  EXPECT_THAT(debugfs(image, "ls -p /etc/ssh"), Not(HasSubstr("ssh_host")));
  EXPECT_THAT(debugfs(image, "ls -p /etc/apt/sources.list.d"), Not(HasSubstr("x.list")));
  EXPECT_THAT(debugfs(image, "ls -p /var/log/apt"), Not(HasSubstr("term.log")));
  EXPECT_THAT(debugfs(image, "stat /boot/vmlinuz-6.1.0-1"), Not(HasSubstr("Inode")));
  // Neither in a file nor in a freed block of the disk, nor in what the package tools were told.
  EXPECT_TRUE(holds(image.root, "agent:x:1000:1000")) << "the search itself works";
  for (const auto& file :
       {image.root, folder_ / "bin/sources.seen", folder_ / "bin/env.seen", image.folder / "image.json"})
    EXPECT_FALSE(holds(file, "canary")) << file;
}

TEST_F(ImageBuild, NoPasswordOfTheHostsSourcesIsInTheDisk) {
  const std::string canary = "c4n4ry-" + random_hex(8);
  fs::create_directories(folder_ / "apt/sources.list.d");
  fs::create_directories(folder_ / "apt/auth.conf.d");
  write_file_atomic(folder_ / "apt/sources.list",
                    "deb [arch=amd64 trusted=yes] https://me:" + canary + "@mirror.example/debian bookworm main\n");
  write_file_atomic(folder_ / "apt/sources.list.d/more.sources",
                    "Types: deb\nURIs: https://" + canary + "@one.example/debian http://a@b:" + canary +
                        "@two.example/debian\nSuites: bookworm-updates\nComponents: main\n");
  write_file_atomic(folder_ / "apt/auth.conf", "machine mirror.example login me password " + canary + "\n");
  write_file_atomic(folder_ / "apt/auth.conf.d/x.conf", "machine one.example login me password " + canary + "\n");
  const auto image = build();
  EXPECT_THAT(debugfs(image, "cat /etc/apt/sources.list"),
              HasSubstr("deb https://mirror.example/debian bookworm main\n"));
  EXPECT_THAT(debugfs(image, "cat /etc/apt/sources.list"),
              HasSubstr("deb http://two.example/debian bookworm-updates main\n"));
  for (const auto& entry : fs::recursive_directory_iterator(folder_)) {
    const bool source = entry.path().string().starts_with((folder_ / "apt").string());
    if (!entry.is_regular_file() || source) continue;
    EXPECT_FALSE(holds(entry.path(), canary)) << entry.path();
  }
}

// Row 17 of the threat model: whoever writes the recipe runs nothing on this host.
TEST_F(ImageBuild, NothingThatARecipeSaysRunsHere) {
  const auto canary = (folder_ / "canary").string(), touch = "touch " + canary;
  const auto recipe = [](const std::string& name, const std::string& suite, const std::string& kernel,
                         const std::string& package, const std::string& more) {
    const auto quoted = [](const std::string& text) { return "'" + text + "'"; };
    return "name: " + quoted(name) + "\nsuite: " + quoted(suite) + "\nkernel: " + quoted(kernel) + "\npackages: [" +
           quoted(package) + "]\n" + more + "\n";
  };
  std::vector<std::string> attacks;
  for (const auto& value :
       {"--customize-hook=" + touch, "-o=DPkg::Pre-Invoke::=" + touch, "git;" + touch, "$(" + touch + ")",
        "`" + touch + "`", "git|" + touch, "git\n" + touch, std::string("../../bin/sh"), std::string("git,--x")}) {
    attacks.push_back(recipe(value, "bookworm", "linux-image-amd64", "git", ""));
    attacks.push_back(recipe("xx", value, "linux-image-amd64", "git", ""));
    attacks.push_back(recipe("xx", "bookworm", value, "git", ""));
    attacks.push_back(recipe("xx", "bookworm", "linux-image-amd64", value, ""));
    attacks.push_back(recipe("xx", "bookworm", "linux-image-amd64", "git", "mask: ['" + value + ".service']"));
  }
  for (const auto* key : {"setup-hook", "customize-hook", "hooks", "run", "script", "install", "files", "post-install"})
    attacks.push_back(recipe("xx", "bookworm", "linux-image-amd64", "git", std::string(key) + ": ['" + touch + "']"));
  for (const auto& attack : attacks) {
    write_file_atomic(request_.recipe, attack);
    try {
      build();
      ADD_FAILURE() << "taken: " << attack;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::usage) << attack << error.what();
    }
    EXPECT_FALSE(fs::exists(canary)) << attack;
  }
  EXPECT_EQ(calls(), 0u);
}

TEST_F(ImageBuild, WhatARecipeNamesReachesTheBuilderAsNamesAlone) {
  write_file_atomic(
      request_.recipe,
      "name: tiny\nsuite: bookworm\nkernel: linux-image-cloud-amd64\ndisk: 4G\npackages: [git, g++-12]\n");
  build();
  const auto seen = read_file(folder_ / "bin/argv.seen");
  EXPECT_THAT(seen, HasSubstr("\n--include=g++-12,git\nbookworm\n"));
  // The hooks are ours, and the same whatever the recipe says.
  const auto hooks = [](const std::string& text) {
    std::size_t count = 0;
    for (auto at = text.find("-hook="); at != text.npos; at = text.find("-hook=", at + 1)) ++count;
    return count;
  };
  EXPECT_EQ(hooks(seen), 3u);
  EXPECT_THAT(seen, Not(HasSubstr("linux-image-cloud-amd64"))) << "the kernel's name travels as a variable";
  EXPECT_THAT(read_file(folder_ / "bin/env.seen"), HasSubstr("AGENTVM_KERNEL=linux-image-cloud-amd64\n"));
}

TEST_F(ImageBuild, ASecondBuildAnswersAtOnce) {
  const auto first = build();
  fs::remove(folder_ / "libexec/agentvm-image");  // not even started
  EXPECT_EQ(build().digest, first.digest);
  EXPECT_EQ(calls(), 1u);
}

TEST_F(ImageBuild, ANewGuestProgramSharesTheDisk) {
  const auto first = build();
  guest_program('2');
  EXPECT_EQ(find_image(request_), std::nullopt);
  const auto second = build();
  EXPECT_NE(second.digest, first.digest);
  EXPECT_EQ(calls(), 1u);
  EXPECT_TRUE(fs::equivalent(first.root, second.root));
  EXPECT_NE(read_file(first.initrd), read_file(second.initrd));
  remove_image(request_.images, first);
  EXPECT_EQ(find_image(request_)->digest, second.digest);
  EXPECT_TRUE(fs::exists(second.root));
}

TEST_F(ImageBuild, ARefreshLeavesTheOldImageToItsSandboxes) {
  const auto first = build();
  request_.mode = BuildMode::refresh;
  const auto second = build();
  EXPECT_NE(second.digest, first.digest);
  EXPECT_EQ(calls(), 2u);
  EXPECT_FALSE(fs::equivalent(first.root, second.root));
  EXPECT_THAT(list_images(request_.images), SizeIs(2));
}

TEST_F(ImageBuild, TwoAtOnceBuildOnce) {
  auto sink = open_file("/dev/null", O_WRONLY);
  auto one = start_build(sink.get()), two = start_build(sink.get());
  EXPECT_TRUE(one.wait(soon())->ok());
  EXPECT_TRUE(two.wait(soon())->ok());
  EXPECT_EQ(calls(), 1u);
  EXPECT_THAT(list_images(request_.images), SizeIs(1));
}

TEST_F(ImageBuild, KilledAtEachStepItLeavesNothingAndTheNextOneWorks) {
  for (const std::string step : {"image-packages", "image-settings", "image-disk", "image-store"}) {
    auto pipe = make_pipe();
    auto child = start_build(pipe.second.get());
    pipe.second.reset();
    std::string seen;
    char buffer[4096];
    while (seen.find("\"" + step + "\"") == std::string::npos) {
      const auto count = read_some(pipe.first.get(), buffer, sizeof buffer, soon());
      ASSERT_GT(count, 0u) << step << " never came: " << seen;
      seen.append(buffer, count);
    }
    child.send_signal(SIGKILL);
    EXPECT_EQ(child.wait(soon())->signal, SIGKILL) << step;
    expect_clean();
  }
  build();
  EXPECT_THAT(leftovers(request_.images), IsEmpty());
}

TEST_F(ImageBuild, CalledOffItLeavesNothing) {
  for (const std::string step : {"image-packages", "image-disk"}) {
    std::stop_source stop;
    request_.stop = stop.get_token();
    const auto progress = [&](const ProgressEvent& event) {
      if (event.step == step) stop.request_stop();
    };
    const auto error = test::error_of([&] { ensure_image(request_, progress, soon()); });
    ASSERT_TRUE(error) << step;
    EXPECT_EQ(error->code(), ErrorCode::cancelled) << error->what();
    EXPECT_THAT(leftovers(request_.images), IsEmpty()) << step;
    EXPECT_THAT(list_images(request_.images), IsEmpty()) << step;
  }
  request_.stop = {};
  build();
}

TEST_F(ImageBuild, KilledAtAnyTimeItLeavesNothing) {
  auto sink = open_file("/dev/null", O_WRONLY);
  for (int after = 0; after <= 900; after += 60) {
    auto child = start_build(sink.get());
    if (child.wait(Deadline::after(milliseconds(after)))) break;  // quicker than we kill
    child.send_signal(SIGKILL);
    child.wait(soon());
    for (int i = 0; i < 250 && !survivors().empty(); ++i) std::this_thread::sleep_for(milliseconds(20));
    EXPECT_THAT(survivors(), IsEmpty()) << after;
    // Either no image, or (killed after its rename) a complete one.
    for (const auto& image : list_images(request_.images)) {
      EXPECT_TRUE(run({.argv = {"e2fsck", "-fn", image.root.string()}}, soon()).status.ok());
      remove_image(request_.images, image);
    }
  }
  build();
  EXPECT_THAT(leftovers(request_.images), IsEmpty());
}

TEST_F(ImageBuild, AFailureNamesTheCauseAndLeavesTheLogAlone) {
  write_file_atomic(folder_ / "bin/fail", "I: installing\nE: Unable to locate package gti\n");
  try {
    build();
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::operation_failed);
    EXPECT_THAT(error.message(), HasSubstr("Unable to locate package gti"));
    EXPECT_THAT(error.hint(), HasSubstr(build_log(request_.images).string()));
  }
  EXPECT_THAT(read_file(build_log(request_.images)), HasSubstr("Unable to locate package gti"));
  EXPECT_THAT(leftovers(request_.images), IsEmpty());
  expect_clean();
  fs::remove(folder_ / "bin/fail");
  build();
}

TEST_F(ImageBuild, TooLittleSpaceIsSaidBeforeAnythingIsFetched) {
  if (::mount("tmpfs", (folder_ / "data").c_str(), "tmpfs", 0, "size=64m") != 0)
    GTEST_SKIP() << "no tmpfs may be mounted here";
  try {
    build();
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::host_lacks);
    EXPECT_THAT(error.message(), HasSubstr("needs 3 GiB"));
    EXPECT_EQ(error.hint(), "agentvm image prune");
  }
  EXPECT_EQ(calls(), 0u);
  ::umount((folder_ / "data").c_str());
}

TEST_F(ImageBuild, AUserWithoutSubordinateIdsIsToldTheRemedy) {
  constexpr uid_t nobody = 65534;
  if (read_file_if_exists("/etc/subuid").value_or("").find("nobody:") != std::string::npos) GTEST_SKIP();
  for (const auto& part : {folder_, folder_ / "data", folder_ / "libexec"})
    ASSERT_EQ(::chown(part.c_str(), nobody, nobody), 0);
  ::chmod(folder_.c_str(), 0755);
  for (const auto& entry : fs::recursive_directory_iterator(folder_))
    fs::permissions(entry.path(), fs::perms(0755), fs::perm_options::add);
  const auto result = run(
      {.argv = {"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                (folder_ / "libexec/agentvm-image").string(), "build", "--images", request_.images.string(), "--cache",
                request_.cache.string(), "--apt", request_.apt.string(), "--recipe", request_.recipe.string()}},
      soon());
  EXPECT_EQ(result.status.code, exit_code(ErrorCode::host_lacks));
  EXPECT_THAT(result.out, HasSubstr("has no range of subordinate ids"));
  EXPECT_THAT(result.out, HasSubstr("sudo usermod --add-subuids"));
}

TEST_F(ImageBuild, PruneKeepsWhatIsInUse) {
  const auto first = build();
  request_.mode = BuildMode::refresh;
  const auto second = build();
  fs::create_directories(request_.images / ".building-0123456789abcdef" / "tree");
  const auto pruned = prune_images(request_.images, request_.libexec, {first.digest});
  ASSERT_THAT(pruned.images, SizeIs(1));
  EXPECT_EQ(pruned.images[0].digest, second.digest);
  EXPECT_GT(pruned.freed_bytes, 0u);
  EXPECT_THAT(list_images(request_.images), SizeIs(1));
  EXPECT_THAT(leftovers(request_.images), IsEmpty());
  EXPECT_EQ(get_image(request_.images, first.digest.substr(0, 8)).digest, first.digest);
  EXPECT_EQ(get_image(request_.images, "tiny").digest, first.digest);
  EXPECT_THROW(get_image(request_.images, "absent"), Error);
}

TEST_F(ImageBuild, ADamagedImageStartsNothingAndAnotherIsBuilt) {
  const auto first = build();
  fs::remove(first.root);
  EXPECT_EQ(find_image(request_), std::nullopt);
  const auto second = build();
  EXPECT_NE(second.digest, first.digest) << "disks may stand on the folder of the first";
  EXPECT_TRUE(fs::exists(second.root));
  EXPECT_FALSE(fs::exists(first.root));
  EXPECT_EQ(get_image(request_.images, "tiny").digest, second.digest) << "a name means one that can be started";
  const auto damaged = get_image(request_.images, first.digest.substr(0, 8));
  EXPECT_EQ(damaged.damage, "root.raw is missing");
  const auto error = test::error_of([&] { refuse_damaged(damaged); });
  ASSERT_TRUE(error);
  EXPECT_THAT(error->message(), HasSubstr("is damaged: root.raw is missing"));
  EXPECT_EQ(error->hint(), "agentvm image remove " + first.digest.substr(0, 12));

  write_file_atomic(second.folder / "image.json", "{");
  const auto third = build();
  EXPECT_NE(third.digest, second.digest);
  EXPECT_EQ(calls(), 3u);
  EXPECT_THAT(prune_images(request_.images, request_.libexec, {third.digest}).images, SizeIs(2));
  EXPECT_THAT(list_images(request_.images), SizeIs(1));
}

TEST_F(ImageBuild, EveryKindOfDamageIsFound) {
  const auto image = build();
  EXPECT_EQ(image.damage, "");
  EXPECT_EQ(find_damage(image, soon()), "");
  const auto overwrite = [](const fs::path& file, std::uint64_t at, const std::string& text) {
    const auto fd = open_file(file, O_WRONLY | O_CLOEXEC);
    ASSERT_EQ(::pwrite(fd.get(), text.data(), text.size(), static_cast<off_t>(at)), static_cast<ssize_t>(text.size()));
  };
  const auto size = fs::file_size(image.root);
  struct Damage {
    const char* file;
    std::function<void(const fs::path&)> done;
    std::string found;
    bool by_size;
  };
  const std::vector<Damage> kinds = {
      {"kernel", [](const fs::path& file) { fs::resize_file(file, 3); }, "kernel has 3 bytes, 7 were built", true},
      {"initrd", [](const fs::path& file) { fs::resize_file(file, 0); }, "initrd has 0 bytes", true},
      {"root.raw", [&](const fs::path& file) { fs::resize_file(file, size / 2); }, "root.raw has", true},
      {"root.raw", [&](const fs::path& file) { fs::resize_file(file, size + 512); }, "root.raw has", true},
      {"kernel", [](const fs::path& file) { fs::remove(file); }, "kernel is missing", true},
      {"kernel", [&](const fs::path& file) { overwrite(file, 0, "K"); }, "kernel is not what was built", false},
      {"initrd", [&](const fs::path& file) { overwrite(file, 100, "\x01"); }, "initrd is not", false},
      {"root.raw", [&](const fs::path& file) { overwrite(file, 1080, "\xff"); }, "root.raw is not", false},
      {"root.raw", [&](const fs::path& file) { overwrite(file, size - 1, "x"); }, "root.raw is not", false},
      {"root.raw", [&](const fs::path& file) { overwrite(file, 0, std::string(2u << 20, '\0')); }, "root.raw is not",
       false},
  };
  const auto kept = folder_ / "kept";
  for (const auto& kind : kinds) {
    run_checked({.argv = {"cp", "-a", "--sparse=always", image.folder, kept}}, soon());
    kind.done(image.folder / kind.file);
    const auto now = read_image(image.folder);
    ASSERT_TRUE(now);
    EXPECT_EQ(!now->damage.empty(), kind.by_size) << kind.found << ": " << now->damage;
    EXPECT_THAT(find_damage(*now, soon()), HasSubstr(kind.found));
    remove_tree(image.folder);
    fs::rename(kept, image.folder);
    // Copied, with holes elsewhere: the content is what counts.
    EXPECT_EQ(find_damage(*read_image(image.folder), soon()), "") << kind.found;
  }
  const auto late = test::error_of([&] { find_damage(image, Deadline::after(milliseconds(0))); });
  ASSERT_TRUE(late);
  EXPECT_EQ(late->code(), ErrorCode::timed_out);
}

/// Of a version that kept no digests: complete is all that can be asked of it.
TEST_F(ImageBuild, AnImageWithoutDigestsIsStarted) {
  const auto image = build();
  auto json = parse_json(read_file(image.folder / "image.json"), "image.json");
  json.erase("files");
  write_file_atomic(image.folder / "image.json", json.dump());
  fs::resize_file(image.kernel, 3);
  const auto old = read_image(image.folder);
  ASSERT_TRUE(old);
  EXPECT_EQ(old->damage, "");
  EXPECT_EQ(find_damage(*old, soon()), "");
  EXPECT_EQ(find_image(request_)->digest, image.digest);
}

}  // namespace
}  // namespace agentvm
