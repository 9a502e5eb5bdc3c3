// An archive from a guest's disk becomes a folder of ours, and nothing in it reaches beyond.
#include "sync/artifacts/unpack.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/support/tar_archive.hpp"
#include "tests/support/temporary_folder.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/process.hpp"

namespace agentvm::sync {
namespace {

using test::tar_end;
using test::tar_file;
using test::tar_header;
using test::tar_long;
using testing::HasSubstr;

class Unpack : public testing::Test {
 protected:
  Unpack() {
    for (const char* name : {"outside", "tree"}) fs::create_directories(dir / name);
    write_file_atomic(dir / "outside/canary", "untouched");
  }
  UnpackOutcome unpack(const std::string& archive, const ArtifactLimits& limits = {1u << 20, 100}) {
    write_file_atomic(dir / "archive", archive);
    return unpack_archive(AGENTVM_TEST_LIBEXEC, open_file(dir / "archive", O_RDONLY | O_CLOEXEC), dir / "tree", limits,
                          Deadline::after(std::chrono::seconds(20)));
  }
  std::string refusal(const std::string& archive, const ArtifactLimits& limits = {1u << 20, 100}) {
    try {
      unpack(archive, limits);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  std::string content(const std::string& name) { return read_file(dir / "tree" / name); }
  mode_t mode(const std::string& name) {
    struct stat status {};
    EXPECT_EQ(::lstat((dir / "tree" / name).c_str(), &status), 0) << name;
    return status.st_mode;
  }

  test::TemporaryFolder dir;
};

TEST_F(Unpack, WhatGnuTarWritesComesWhole) {
  const std::string deep(90, 'd'), odd = "odd\nname\033]0;x\007\xff";
  fs::create_directories(dir / "from" / deep / deep);
  write_file_atomic(dir / "from" / deep / deep / odd, "deep", 0644);
  write_file_atomic(dir / "from/run", "#!/bin/sh\n", 0755);
  write_file_atomic(dir / "from/zeros", std::string(300'000, '\0') + "x", 0644);
  fs::create_hard_link(dir / "from/run", dir / "from/again");
  fs::create_symlink(std::string(3000, 'l'), dir / "from/link");
  ASSERT_EQ(::mkfifo((dir / "from/pipe").c_str(), 0600), 0);
  run_checked({.argv = {"tar", "--sort=name", "-C", (dir / "from").string(), "-cf", (dir / "made").string(), "."}},
              Deadline::after(std::chrono::seconds(20)));
  const auto outcome = unpack(read_file(dir / "made"));
  EXPECT_TRUE(outcome.whole);
  EXPECT_EQ(outcome.files, 5u);
  EXPECT_EQ(outcome.left_out, 1u);
  EXPECT_EQ(content(deep + "/" + deep + "/" + odd), "deep");
  EXPECT_EQ(content("zeros"), std::string(300'000, '\0') + "x");
  EXPECT_EQ(content("run"), content("again"));
  EXPECT_TRUE(mode("run") & S_IXUSR);
  EXPECT_EQ(fs::read_symlink(dir / "tree/link"), std::string(3000, 'l'));
}

TEST_F(Unpack, NoBitAndNoDeviceComesAlong) {
  unpack(tar_file("setuid", "x", 06755) + tar_header({.name = "block", .kind = '4'}) +
         tar_header({.name = "char", .kind = '3'}) + tar_header({.name = "pipe", .kind = '6'}) + tar_end());
  EXPECT_EQ(mode("setuid") & 07000, 0u);
  for (const char* name : {"block", "char", "pipe"}) EXPECT_FALSE(fs::exists(dir / "tree" / name)) << name;
}

TEST_F(Unpack, ALinkIsNeverFollowed) {
  const auto outside = (dir / "outside").string();
  const auto outcome = unpack(
      tar_header({.name = "way", .kind = '2', .target = outside}) + tar_file("way/canary", "changed") +
      tar_file("way/new", "new") + tar_header({.name = "stolen", .kind = '2', .target = outside + "/canary"}) +
      tar_header({.name = "copy", .kind = '1', .target = "stolen"}) +
      tar_header({.name = "copy2", .kind = '1', .target = "way/canary"}) + tar_file("stolen", "mine") + tar_end());
  EXPECT_EQ(read_file(dir / "outside/canary"), "untouched");
  EXPECT_FALSE(fs::exists(dir / "outside/new"));
  EXPECT_FALSE(fs::exists(dir / "tree/copy"));
  EXPECT_FALSE(fs::exists(dir / "tree/copy2"));
  EXPECT_EQ(content("stolen"), "mine") << "the link gave way to the file, not its target";
  EXPECT_EQ(outcome.left_out, 4u);
}

TEST_F(Unpack, NamesThatLeadOutEndIt) {
  for (const char* name : {"../outside/canary", "/outside/canary", "a/../../outside/canary", "a//b", "./../x", ".."})
    EXPECT_THAT(refusal(tar_file(name, "changed") + tar_end()), HasSubstr("leads out")) << name;
  EXPECT_THAT(refusal(tar_long('L', std::string(200, 'a') + "/../../x") + tar_file("short", "x") + tar_end()),
              HasSubstr("leads out"));
  EXPECT_THAT(refusal(tar_header({.name = "x", .kind = '1', .target = "../outside/canary"}) + tar_end()),
              HasSubstr("leads out"));
  EXPECT_EQ(read_file(dir / "outside/canary"), "untouched");
}

TEST_F(Unpack, DamageEndsIt) {
  auto wrong_sum = tar_file("a", "x");
  wrong_sum[0] = 'b';
  EXPECT_THAT(refusal(wrong_sum + tar_end()), HasSubstr("sum"));
  EXPECT_THAT(refusal(std::string(512, 'x')), HasSubstr("damaged"));
  for (const char kind : {'7', 'x', 'g', 'S', 'D', 'V'})
    EXPECT_THAT(refusal(tar_header({.name = "a", .kind = kind}) + tar_end()), HasSubstr("unknown kind")) << kind;
  EXPECT_THAT(refusal(tar_header({.name = "a", .kind = '5', .size = 5}) + tar_end()), HasSubstr("content"));
  EXPECT_THAT(refusal(tar_long('L', std::string(5000, 'n')) + tar_end()), HasSubstr("too long"));
  EXPECT_THAT(refusal(tar_long('L', "n") + tar_end()), HasSubstr("within an entry"));
}

TEST_F(Unpack, AnArchiveThatIsCutIsNotWhole) {
  const auto archive = tar_file("a", std::string(2000, 'x')) + tar_end();
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{100}, std::size_t{512}, std::size_t{1500}, archive.size() - 1024})
    EXPECT_FALSE(unpack(archive.substr(0, size)).whole) << size;
  EXPECT_TRUE(unpack(archive).whole);
}

TEST_F(Unpack, LimitsEndIt) {
  EXPECT_THAT(refusal(tar_header({.name = "a", .size = 2u << 20}) + tar_end()), HasSubstr("more than 1 MiB"));
  std::string many;
  for (int i = 0; i < 101; ++i) many += tar_header({.name = std::to_string(i), .kind = '5'});
  EXPECT_THAT(refusal(many + tar_end()), HasSubstr("more than 100 files"));
  auto copies = tar_file("a", std::string(300'000, 'x'));
  for (int i = 0; i < 4; ++i) copies += tar_header({.name = std::to_string(i), .kind = '1', .target = "a"});
  EXPECT_THAT(refusal(copies + tar_end()), HasSubstr("larger than")) << "second names are copies, and count";
}

}  // namespace
}  // namespace agentvm::sync
