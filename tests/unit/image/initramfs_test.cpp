#include "guest/image/initramfs.hpp"

#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/process.hpp"

namespace agentvm {
namespace {

using ::testing::HasSubstr;

struct Entry {
  unsigned long mode = 0, major = 0, minor = 0;
  std::string content;
};

/// A reader of newc archives of its own, so that writer and reader cannot share a mistake of layout. Concatenated
/// archives are read in turn.
std::map<std::string, Entry> read_cpio(std::string_view data) {
  std::map<std::string, Entry> entries;
  std::size_t at = 0;
  const auto field = [&](int index) {
    return std::stoul(std::string(data.substr(at + 6 + std::size_t(index) * 8, 8)), nullptr, 16);
  };
  const auto align = [](std::size_t value) { return (value + 3) / 4 * 4; };
  while (at + 110 <= data.size()) {
    if (data[at] == '\0') {
      ++at;
      continue;
    }
    if (data.substr(at, 6) != "070701") throw std::runtime_error("no header at " + std::to_string(at));
    const auto size = field(6), name_size = field(11);
    const std::string name(data.substr(at + 110, name_size - 1));
    const auto content = align(at + 110 + name_size);
    if (name != "TRAILER!!!") entries[name] = {field(1), field(9), field(10), std::string(data.substr(content, size))};
    at = align(content + size);
  }
  return entries;
}

class Initramfs : public ::testing::Test {
 protected:
  fs::path folder_ = fs::temp_directory_path() / ("initramfs-" + random_hex(6));
  void SetUp() override { fs::create_directories(folder_); }
  void TearDown() override { remove_tree(folder_); }

  void module(const std::string& path, const std::string& content) {
    const auto file = folder_ / "tree/lib/modules/6.1.0-1" / path;
    fs::create_directories(file.parent_path());
    write_file_atomic(file, content);
  }
  void tree() {
    module("modules.builtin", "kernel/fs/ext4/ext4.ko\nkernel/net/unix/unix.ko\n");
    module("modules.dep",
           "k/virtio_ring.ko:\nk/virtio.ko: k/virtio_ring.ko\n"
           "k/virtio_pci.ko: k/virtio.ko k/virtio_ring.ko\nk/virtio_blk.ko: k/virtio.ko k/virtio_ring.ko\n"
           "k/virtio_console.ko: k/virtio.ko k/virtio_ring.ko\nk/virtio_net.ko: k/virtio.ko k/virtio_ring.ko\n"
           "k/virtiofs.ko: k/virtio.ko k/virtio_ring.ko\n");
    for (const auto* name :
         {"virtio_ring", "virtio", "virtio_pci", "virtio_blk", "virtio_console", "virtio_net", "virtiofs"})
      module("k/" + std::string(name) + ".ko", "code of " + std::string(name));
  }
};

TEST_F(Initramfs, ListsModulesInLoadOrder) {
  tree();
  const auto entries = read_cpio(modules_archive(folder_ / "tree"));
  EXPECT_EQ(entries.at("lib/agentvm/modules.list").content,
            "/lib/agentvm/modules/00-virtio_ring.ko\n/lib/agentvm/modules/01-virtio.ko\n/lib/agentvm/modules/"
            "02-virtio_pci.ko\n"
            "/lib/agentvm/modules/03-virtio_blk.ko\n/lib/agentvm/modules/04-virtio_console.ko\n/lib/agentvm/modules/"
            "05-virtio_net.ko\n"
            "/lib/agentvm/modules/06-virtiofs.ko\n");
  EXPECT_EQ(entries.at("lib/agentvm/modules/03-virtio_blk.ko").content, "code of virtio_blk");
  EXPECT_EQ(entries.at("lib/agentvm/modules").mode, 040755u);
}

TEST_F(Initramfs, IsTheSameForTheSameInput) {
  tree();
  EXPECT_EQ(modules_archive(folder_ / "tree"), modules_archive(folder_ / "tree"));
}

TEST_F(Initramfs, MissingModuleFileIsNamed) {
  tree();
  fs::remove(folder_ / "tree/lib/modules/6.1.0-1/k/virtio_net.ko");
  try {
    modules_archive(folder_ / "tree");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.message(), HasSubstr("virtio_net.ko"));
  }
}

std::string elf(bool with_loader) {
  std::string program(64 + 56, '\0');
  program.replace(0, 5, "\177ELF\2");
  program[32] = 64;                   // e_phoff
  program[54] = 56;                   // e_phentsize
  program[56] = 1;                    // e_phnum
  program[64] = with_loader ? 3 : 1;  // PT_INTERP or PT_LOAD
  return program;
}

TEST_F(Initramfs, InitIsTheProgramWithAConsole) {
  write_file_atomic(folder_ / "guest", elf(false));
  const auto entries = read_cpio(init_archive(folder_ / "guest"));
  EXPECT_EQ(entries.at("init").content, elf(false));
  EXPECT_EQ(entries.at("init").mode, 0100755u);
  EXPECT_EQ(entries.at("dev/console").mode, 020600u);
  EXPECT_EQ(entries.at("dev/console").major, 5u);
  EXPECT_EQ(entries.at("dev/console").minor, 1u);
  for (const auto* mount : {"dev", "proc", "sys", "root"}) EXPECT_EQ(entries.at(mount).mode, 040755u) << mount;
}

TEST_F(Initramfs, BothPartsReadAsOne) {
  tree();
  write_file_atomic(folder_ / "guest", elf(false));
  const auto entries = read_cpio(modules_archive(folder_ / "tree") + init_archive(folder_ / "guest"));
  EXPECT_TRUE(entries.contains("init"));
  EXPECT_TRUE(entries.contains("lib/agentvm/modules.list"));
}

TEST_F(Initramfs, AProgramThatNeedsALoaderIsRefused) {
  const std::pair<std::string, const char*> cases[] = {{elf(true), "not linked statically"},
                                                       {"#!/bin/sh\n", "not an ELF program"},
                                                       {elf(false).substr(0, 70), "cut off"}};
  for (const auto& [program, reason] : cases) {
    write_file_atomic(folder_ / "guest", program);
    try {
      init_archive(folder_ / "guest");
      ADD_FAILURE() << reason;
    } catch (const Error& error) {
      EXPECT_THAT(error.message(), HasSubstr(reason));
    }
  }
  EXPECT_THROW(init_archive(folder_ / "absent"), Error);
}

TEST_F(Initramfs, CpioOfTheSystemReadsIt) {
  if (find_program("cpio").empty()) GTEST_SKIP() << "no cpio here; the kernel's own reader is tested by each boot";
  write_file_atomic(folder_ / "guest", elf(false));
  const auto listed = run({.argv = {"cpio", "-t", "--quiet"}}, Deadline::after(std::chrono::seconds(10)),
                          init_archive(folder_ / "guest"));
  EXPECT_TRUE(listed.status.ok()) << listed.err;
  EXPECT_EQ(listed.out, "dev\nproc\nsys\nroot\nrun\ntmp\ndev/console\ndev/null\ninit\n");
}

}  // namespace
}  // namespace agentvm
