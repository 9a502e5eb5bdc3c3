// A real appliance reads disks made here: what a guest can write to its disk, and what can be wrong with one.
#include "guest/image/disk_reader.hpp"

#include <cstdlib>
#include <fstream>
#include <future>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "guest/image/listing.hpp"
#include "guest/image/store.hpp"
#include "sync/artifacts/unpack.hpp"
#include "tests/support/temporary_folder.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/process.hpp"

namespace agentvm {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

Deadline limit() {
  return Deadline::after(std::chrono::minutes(6));
}

class DiskReaderTest : public testing::Test {
 protected:
  DiskReaderTest() {
    for (const auto& made : {root, dir / "scratch", dir / "workspace", dir / "outside"}) fs::create_directories(made);
    write_file_atomic(dir / "outside/canary", "untouched");
  }

  static Image image() {
    const auto found = read_image(fs::canonical(std::getenv("AGENTVM_TEST_IMAGE")));
    if (!found) throw Error(ErrorCode::not_found, "no image to test with");
    return *found;
  }
  /// The tree `root` as a disk; `damage` gets its raw form first.
  fs::path make_disk(const std::function<void(const fs::path&)>& damage = {}) {
    const auto raw = dir / "raw", disk = dir / "disk.qcow2";
    run_checked({.argv = {"mke2fs", "-q", "-t", "ext4", "-d", root.string(), raw.string(), "64M"}}, limit());
    if (damage) damage(raw);
    run_checked({.argv = {"qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw.string(), disk.string()}}, limit());
    return disk;
  }
  DiskRead request(const fs::path& disk) {
    return {.disk = disk,
            .image = image(),
            .libexec = AGENTVM_LIBEXEC,
            .cache = AGENTVM_TEST_CACHE,
            .scratch = dir / "scratch",
            .sockets = dir / "s"};
  }
  sync::UnpackOutcome read(const fs::path& disk, Deadline deadline = limit()) {
    DiskReader reader(request(disk), no_progress(), limit());
    auto unpacking = std::async(std::launch::async, [&, archive = reader.take_data()]() mutable {
      return sync::unpack_archive(AGENTVM_LIBEXEC, std::move(archive), dir / "workspace", {1u << 20, 1000}, limit());
    });
    reader.finish(no_progress(), deadline);
    return unpacking.get();
  }
  std::optional<Error> problem(const fs::path& disk, Deadline deadline = limit()) {
    auto error = test::error_of([&] { read(disk, deadline); });
    if (error) {
      for (const unsigned char c : std::string(error->what())) EXPECT_TRUE(c >= 0x20 && c != 0x7f) << error->what();
    }
    return error;
  }
  /// Those that were told of our folder.
  int processes() {
    int count = 0;
    for (const auto& entry : fs::directory_iterator("/proc")) {
      if (entry.path().filename().string().find_first_not_of("0123456789") != std::string::npos) continue;
      std::ifstream file(entry.path() / "cmdline");
      const std::string line((std::istreambuf_iterator<char>(file)), {});
      if (line.find(dir.path().string()) != std::string::npos) ++count;
    }
    return count;
  }
  void TearDown() override {
    EXPECT_FALSE(fs::exists(dir / "s")) << "the sockets are gone";
    EXPECT_EQ(read_file(dir / "outside/canary"), "untouched");
    const auto patience = Deadline::after(std::chrono::seconds(5));  // what was killed takes a moment to go
    while (processes() > 0 && !patience.expired()) system_clock().sleep(milliseconds(50));
    EXPECT_EQ(processes(), 0) << "a process is left";
  }

  test::TemporaryFolder dir;
  const fs::path root = dir / "root";
};

TEST_F(DiskReaderTest, FilesAndLinksComeAndNothingElse) {
  const auto work = root / "workspace";
  fs::create_directories(work / ".git/hooks");
  const auto run = [&](const char* command) {
    run_checked({.argv = {"sh", "-c", command}, .cwd = work.string()}, limit());
  };
  run("printf x >plain; printf '#!/bin/sh\\n' >run; chmod 4755 run; ln run again; mkfifo pipe; ln -s /etc/passwd link");
  run("printf 'exit 1\\n' >.git/hooks/post-commit; printf '[core]\\n\\tfsmonitor = false\\n' >.git/config");
  const std::string odd = "odd\nname\033]0;x\007";
  write_file_atomic(work / odd, "odd");
  const bool root_here = ::geteuid() == 0;
  if (root_here) {
    ASSERT_EQ(::mknod((work / "device").c_str(), S_IFBLK | 0666, makedev(7, 0)), 0);
  }
  fs::create_directory_symlink(dir / "outside", work / "way");
  const auto disk = make_disk();
  const auto before = read_file(disk, 256u << 20);
  const auto outcome = read(disk);
  EXPECT_TRUE(outcome.whole);
  EXPECT_EQ(outcome.left_out, root_here ? 2u : 1u);
  const auto home = dir / "workspace";
  EXPECT_EQ(read_file(home / "plain"), "x");
  EXPECT_EQ(read_file(home / odd), "odd");
  EXPECT_EQ(fs::read_symlink(home / "link"), "/etc/passwd");
  EXPECT_EQ(fs::read_symlink(home / "way"), dir / "outside");
  struct stat status {};
  ASSERT_EQ(::stat((home / "run").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07100, 0100u);
  EXPECT_EQ(read_file(home / "again"), read_file(home / "run"));
  EXPECT_TRUE(fs::exists(home / ".git/hooks/post-commit"));
  for (const char* name : {"pipe", "device"}) EXPECT_FALSE(fs::exists(home / name)) << name;
  EXPECT_TRUE(read_file(disk, 256u << 20) == before) << "the disk was written";
}

TEST_F(DiskReaderTest, WhatIsAskedForComesWhateverItIs) {
  const auto home = root / "home/agent";
  fs::create_directories(home / "folder");
  write_file_atomic(home / "notes", "remember\n");
  write_file_atomic(home / "folder/odd\n\033]0;x\007", "");
  fs::create_symlink("/home/agent/notes", root / "here");
  fs::create_directory_symlink("agent", root / "home/too");
  fs::create_directory_symlink("/home", root / "from-the-top");
  fs::create_symlink("/nowhere", root / "broken");
  run_checked({.argv = {"sh", "-c", "printf '#!/bin/sh\n' >run && chmod 755 run && mkfifo pipe"}, .cwd = home.string()},
              limit());
  const auto disk = make_disk();
  const auto ask = [&](DiskRead::What what, const std::string& path) {
    auto wanted = request(disk);
    wanted.what = what;
    wanted.path = path;
    DiskReader reader(wanted, no_progress(), limit());
    auto reading = std::async(std::launch::async, [data = reader.take_data()] {
      std::string bytes;
      char buffer[4096];
      while (const auto count = read_some(data.get(), buffer, sizeof buffer, limit())) bytes.append(buffer, count);
      return bytes;
    });
    reader.finish(no_progress(), limit());
    return reading.get();
  };
  EXPECT_EQ(ask(DiskRead::What::any, "/home/agent/notes"), "Fremember\n");
  EXPECT_EQ(ask(DiskRead::What::any, "/here"), "Fremember\n") << "a link of the disk leads within it";
  EXPECT_EQ(ask(DiskRead::What::any, "/home/too/run"), "X#!/bin/sh\n");
  for (const char* path : {"/home/too/folder", "/from-the-top/agent/folder"}) {
    const auto folder = ask(DiskRead::What::any, path);
    EXPECT_TRUE(folder.starts_with("D./")) << path << ": " << folder.substr(0, 40);
    EXPECT_THAT(folder, HasSubstr("./odd\n\033]0;x\007"));
  }
  const auto entries = parse_listing(ask(DiskRead::What::list, "/home/too"));
  std::map<std::string, ListedEntry> listed;
  for (const auto& entry : entries) listed[entry.name] = entry;
  ASSERT_EQ(listed.size(), 4U);
  EXPECT_EQ(listed["notes"].size, 9U);
  EXPECT_EQ(listed["notes"].uid, ::geteuid());
  EXPECT_TRUE(S_ISFIFO(listed["pipe"].mode));
  EXPECT_TRUE(S_ISDIR(listed["folder"].mode));
  const auto top = parse_listing(ask(DiskRead::What::list, "/"));
  EXPECT_TRUE(std::any_of(top.begin(), top.end(),
                          [](const auto& each) { return each.name == "broken" && each.target == "/nowhere"; }));
  EXPECT_EQ(parse_listing(ask(DiskRead::What::list, "/home/agent/notes")).front().name, "notes");
  for (const char* path : {"/broken", "/home/agent/nothing", "/home/agent/pipe"}) {
    const auto error = test::error_of([&] { ask(DiskRead::What::any, path); });
    ASSERT_TRUE(error) << path;
    EXPECT_EQ(error->code(), ErrorCode::not_found) << error->what();
  }
}

TEST_F(DiskReaderTest, AWorkspaceThatIsALinkIsNotFollowed) {
  fs::create_directories(root / "etc");
  fs::create_directory_symlink("/etc", root / "workspace");
  const auto error = problem(make_disk());
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::not_found);
  EXPECT_TRUE(fs::is_empty(dir / "workspace"));
}

TEST_F(DiskReaderTest, ADamagedFileSystemIsToldOf) {
  fs::create_directories(root / "workspace");
  const auto error = problem(make_disk([](const fs::path& raw) { fs::resize_file(raw, 512); }));
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::operation_failed);
  EXPECT_THAT(error->what(), AllOf(HasSubstr("cannot be mounted"), Not(HasSubstr("image"))));
}

TEST_F(DiskReaderTest, ADamagedImageIsNamed) {
  fs::create_directories(root / "workspace");
  auto asked = request(make_disk([](const fs::path& raw) { fs::resize_file(raw, 512); }));
  const auto folder = dir / asked.image.digest;  // an image's folder has its name
  fs::create_directories(folder);
  for (const auto& file : fs::directory_iterator(asked.image.folder))
    if (std::error_code apart; file.is_regular_file()) {
      fs::create_hard_link(file.path(), folder / file.path().filename(), apart);
      if (apart) fs::copy_file(file.path(), folder / file.path().filename());  // on two file systems
    }
  auto initrd = read_file(folder / "initrd", 1u << 30);
  initrd[initrd.size() / 2] ^= 1;
  write_file_atomic(folder / "initrd", initrd);  // in the link's place
  const auto copy = read_image(folder);
  ASSERT_TRUE(copy);
  asked.image = *copy;
  const auto error = test::error_of([&] {
    DiskReader reader(asked, no_progress(), limit());
    reader.take_data();
    reader.finish(no_progress(), limit());
  });
  ASSERT_TRUE(error);
  EXPECT_THAT(error->what(), AllOf(HasSubstr("that the disk stands on is damaged: initrd is not what was built"),
                                   HasSubstr("cannot be mounted")));
  EXPECT_THAT(read_image(folder)->damage, HasSubstr("initrd"));
}

TEST_F(DiskReaderTest, ABaseThatIsMissingIsToldOf) {
  write_file_atomic(dir / "base", std::string(1u << 20, '\0'));
  run_checked({.argv = {"qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", (dir / "base").string(),
                        (dir / "disk.qcow2").string()}},
              limit());
  fs::remove(dir / "base");
  const auto error = problem(dir / "disk.qcow2");
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::operation_failed);
}

TEST_F(DiskReaderTest, BeyondItsTimeAllOfItIsKilled) {
  fs::create_directories(root / "workspace");
  const auto error = problem(make_disk(), Deadline::after(std::chrono::seconds(2)));
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::timed_out);
}

}  // namespace
}  // namespace agentvm
