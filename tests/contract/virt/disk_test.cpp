// Overlays by the real qemu-img.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/contract/virt/support.hpp"
#include "tests/support/temporary_folder.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/json.hpp"
#include "vmm/disk/overlay.hpp"

namespace agentvm::test {
namespace {

class OverlayTest : public ::testing::Test {
 protected:
  OverlayTest() {
    write_file_atomic(base, std::string(1 << 20, 'b'));
    fs::resize_file(base, 64 << 20);
  }
  Json info(const fs::path& path) {
    ProcessSpec spec;
    spec.argv = {"qemu-img", "info", "--output=json", path.string()};
    return parse_json(run_checked(spec, in_seconds(20)), "qemu-img");
  }
  const TemporaryFolder folder;
  const fs::path base = folder / "root.raw", overlay = folder / "it's, a disk.qcow2";
};

TEST_F(OverlayTest, NamesBothFormats) {
  create_overlay(overlay, base, DiskFormat::raw, ByteSize::gibibytes(20), in_seconds(20));
  const auto json = info(overlay);
  EXPECT_EQ(json.at("format"), "qcow2");
  EXPECT_EQ(json.at("backing-filename-format"), "raw");
  EXPECT_EQ(json.at("full-backing-filename"), base.string());
  EXPECT_EQ(json.at("virtual-size"), 20ull << 30);
  EXPECT_LT(allocated_bytes(overlay), 4u << 20);
  EXPECT_GT(allocated_bytes(overlay), 0u);
  struct stat status {};
  ASSERT_EQ(::stat(overlay.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST_F(OverlayTest, NoSizeIsTheBases) {
  create_overlay(overlay, base, DiskFormat::raw, ByteSize(), in_seconds(20));
  EXPECT_EQ(info(overlay).at("virtual-size"), 64u << 20);
}

TEST_F(OverlayTest, RefusalsLeaveNoFile) {
  EXPECT_EQ(error_of([&] { create_overlay(overlay, folder / "absent", DiskFormat::raw, {}, in_seconds(20)); })->code(),
            ErrorCode::not_found);
  EXPECT_EQ(
      error_of([&] { create_overlay(overlay, base, DiskFormat::raw, ByteSize(1 << 20), in_seconds(20)); })->code(),
      ErrorCode::usage);
  EXPECT_EQ(error_of([&] { create_overlay(overlay, folder.path(), DiskFormat::raw, {}, in_seconds(20)); })->code(),
            ErrorCode::usage);
  EXPECT_EQ(error_of([&] { create_overlay("nbd:x", base, DiskFormat::raw, {}, in_seconds(20)); })->code(),
            ErrorCode::usage);
  EXPECT_TRUE(error_of([&] { create_overlay(overlay, base, DiskFormat::qcow2, {}, in_seconds(20)); }))
      << "a raw file is no qcow2";
  EXPECT_FALSE(fs::exists(overlay));
}

TEST_F(OverlayTest, AnExistingDiskIsKept) {
  write_file_atomic(overlay, "precious");
  EXPECT_EQ(error_of([&] { create_overlay(overlay, base, DiskFormat::raw, {}, in_seconds(20)); })->code(),
            ErrorCode::wrong_state);
  EXPECT_EQ(error_of([&] { create_disk(overlay, ByteSize::gibibytes(1), in_seconds(20)); })->code(),
            ErrorCode::wrong_state);
  EXPECT_EQ(read_file(overlay), "precious");
}

TEST_F(OverlayTest, AnEmptyDisk) {
  create_disk(overlay, ByteSize::gibibytes(5), in_seconds(20));
  EXPECT_EQ(info(overlay).at("virtual-size"), 5ull << 30);
  EXPECT_FALSE(info(overlay).contains("backing-filename"));
  EXPECT_EQ(allocated_bytes(folder / "absent"), 0u);
}

}  // namespace
}  // namespace agentvm::test
