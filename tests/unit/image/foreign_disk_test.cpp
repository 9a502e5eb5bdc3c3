// Row 12 of the threat model: a disk image that names other files, or whose numbers make no sense, is refused by its
// header, before anything that would follow it opens it.
#include "guest/image/foreign_disk.hpp"

#include <functional>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/temporary_folder.hpp"
#include "vmm/base/files.hpp"

namespace agentvm {
namespace {

using testing::HasSubstr;

constexpr std::uint64_t file_bytes = 4u << 20, disk_bytes = std::uint64_t{8} << 30;

void put(std::string& bytes, std::size_t offset, std::size_t size, std::uint64_t value) {
  for (std::size_t i = 0; i < size; ++i) bytes[offset + i] = static_cast<char>(value >> 8 * (size - 1 - i));
}

/// A version 3 header as qemu-img writes it, in a file of `file_bytes`.
std::string good_header() {
  std::string bytes(65536, '\0');
  bytes.replace(0, 4, "QFI\xfb");
  put(bytes, 4, 4, 3);
  put(bytes, 20, 4, 16);
  put(bytes, 24, 8, disk_bytes);
  put(bytes, 36, 4, 16);
  put(bytes, 40, 8, 196608);
  put(bytes, 48, 8, 65536);
  put(bytes, 56, 4, 1);
  put(bytes, 96, 4, 4);
  put(bytes, 100, 4, 112);
  return bytes;
}

class ForeignDiskTest : public testing::Test {
 protected:
  fs::path file(const std::string& bytes, std::uint64_t size = file_bytes) {
    write_file_atomic(dir / "disk", bytes);
    fs::resize_file(dir / "disk", size);
    return dir / "disk";
  }
  std::string refusal(const std::string& bytes, std::uint64_t size = file_bytes) {
    const auto error = test::error_of([&] { check_foreign_disk(file(bytes, size)); });
    if (!error) return "taken";
    EXPECT_EQ(error->code(), ErrorCode::operation_failed);
    EXPECT_THAT(error->message(), HasSubstr((dir / "disk").string() + " cannot be imported: "));
    return error->message().substr(error->message().find(": ") + 2);
  }
  test::TemporaryFolder dir;
};

TEST_F(ForeignDiskTest, RawAndQcow2AreTold) {
  const auto qcow2 = check_foreign_disk(file(good_header()));
  EXPECT_EQ(qcow2.format, ForeignDisk::Format::qcow2);
  EXPECT_EQ(qcow2.size_bytes, disk_bytes);
  const auto raw = check_foreign_disk(file("anything"));
  EXPECT_EQ(raw.format, ForeignDisk::Format::raw);
  EXPECT_EQ(raw.size_bytes, file_bytes);
  auto old = good_header();
  put(old, 4, 4, 2);
  std::fill(old.begin() + 72, old.end(), '\0');
  EXPECT_EQ(check_foreign_disk(file(old)).size_bytes, disk_bytes);
}

TEST_F(ForeignDiskTest, WhatNamesOtherFilesOrMakesNoSenseIsRefused) {
  struct Row {
    std::function<void(std::string&)> change;
    const char* why;
  };
  const auto number = [](std::size_t offset, std::size_t size, std::uint64_t value) {
    return [=](std::string& bytes) { put(bytes, offset, size, value); };
  };
  const auto extension = [](std::uint32_t type, std::uint32_t length, std::string data = "json:{}") {
    return [=](std::string& bytes) {
      put(bytes, 112, 4, type);
      put(bytes, 116, 4, length);
      bytes.replace(120, data.size(), data);
    };
  };
  const std::vector<Row> rows = {
      {number(8, 8, 512), "backing file"},
      {number(16, 4, 10), "backing file"},
      {number(72, 8, 1u << 2), "its data is in another file"},
      {number(72, 8, 1u << 1), "marked as corrupt"},
      {number(72, 8, 1u << 5), "features that are not known"},
      {number(72, 8, std::uint64_t{1} << 63), "features that are not known"},
      {extension(0x44415441, 7), "names another file"},
      {extension(0xE2792ACA, 5, "qcow2"), "names another file"},
      {extension(0x0537BE77, 16), "encrypted"},
      {extension(0x6803f857, 0x7fffffff), "longer than that"},
      {extension(0x6803f857, 0xfffffff8), "longer than that"},
      {number(32, 4, 1), "encrypted"},
      {number(88, 8, 1), "bitmaps"},
      {extension(0x23852875, 24), "bitmaps"},
      {number(32, 4, 2), "encrypted"},
      {number(4, 4, 1), "qcow2 of version 1"},
      {number(4, 4, 4), "qcow2 of version 4"},
      {number(20, 4, 8), "clusters"},
      {number(20, 4, 22), "clusters"},
      {number(20, 4, 63), "clusters"},
      {number(24, 8, 0), "size"},
      {number(24, 8, std::uint64_t{1} << 41), "are the most"},
      {number(24, 8, ~std::uint64_t{0}), "are the most"},
      {number(36, 4, 1), "first table"},
      {number(36, 4, 0xffffffff), "first table"},
      {number(40, 8, 0), "a table is at"},
      {number(40, 8, 1), "a table is at"},
      {number(40, 8, std::uint64_t{1} << 62), "a table is at"},
      {number(48, 8, file_bytes), "a table is at"},
      {number(56, 4, 0xffffffff), "reference counts"},
      {number(60, 4, 1), "snapshots"},
      {number(96, 4, 7), "reference counts"},
      {number(100, 4, 8), "header makes no sense"},
      {number(100, 4, 0xfffffff8), "header makes no sense"},
      {number(100, 4, 113), "header makes no sense"},
  };
  for (const auto& row : rows) {
    auto bytes = good_header();
    row.change(bytes);
    EXPECT_THAT(refusal(bytes), HasSubstr(row.why));
  }
  for (const std::size_t size : {4u, 23u, 71u, 103u, 111u}) EXPECT_NE(refusal(good_header(), size), "taken") << size;
}

TEST_F(ForeignDiskTest, OtherFormatsAreNamed) {
  const auto at = [](std::size_t offset, const std::string& magic) { return std::string(offset, '\0') + magic; };
  EXPECT_THAT(refusal("KDMV"), HasSubstr("VMDK"));
  EXPECT_THAT(refusal("# Disk DescriptorFile\nRW 1 FLAT \"/etc/shadow\" 0\n"), HasSubstr("VMDK"));
  EXPECT_THAT(refusal(at(0x40, std::string("\x7f\x10\xda\xbe", 4))), HasSubstr("VDI"));
  EXPECT_THAT(refusal("vhdxfile"), HasSubstr("VHDX"));
  EXPECT_THAT(refusal("LUKS\xba\xbe"), HasSubstr("LUKS"));
  EXPECT_THAT(refusal("\xfd"
                      "7zXZ"),
              HasSubstr("xz"));
  EXPECT_THAT(refusal(at(0x8001, "CD001")), HasSubstr("ISO 9660"));
  EXPECT_THAT(refusal("x", 1000), HasSubstr("that of no disk"));
  EXPECT_THAT(refusal("x", file_bytes + 1), HasSubstr("that of no disk"));
  EXPECT_THAT(refusal("x", std::uint64_t{2} << 40), HasSubstr("are the most"));
}

TEST_F(ForeignDiskTest, OnlyFilesAreRead) {
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  for (const fs::path& path : {dir / "pipe", dir.path(), fs::path("/dev/null")}) {
    const auto error = test::error_of([&] { check_foreign_disk(path); });
    ASSERT_TRUE(error) << path;
    EXPECT_THAT(error->message(), HasSubstr("it is no file"));
  }
  EXPECT_EQ(test::error_of([&] { check_foreign_disk(dir / "absent"); })->code(), ErrorCode::not_found);
}

}  // namespace
}  // namespace agentvm
