#include "guest/image/modules.hpp"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/process.hpp"

namespace agentvm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// As depmod writes it: nearest need first, so that the far end loads first.
constexpr const char* dep =
    "kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko\n"
    "kernel/drivers/virtio/virtio_ring.ko:\n"
    "kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_pci_modern_dev.ko "
    "kernel/drivers/virtio/virtio.ko "
    "kernel/drivers/virtio/virtio_ring.ko\n"
    "kernel/drivers/virtio/virtio_pci_modern_dev.ko:\n"
    "kernel/drivers/char/hw_random/virtio-rng.ko.xz: kernel/drivers/virtio/virtio.ko "
    "kernel/drivers/virtio/virtio_ring.ko\n"
    "kernel/fs/fuse/virtiofs.ko: kernel/fs/fuse/fuse.ko kernel/drivers/virtio/virtio.ko "
    "kernel/drivers/virtio/virtio_ring.ko\n"
    "kernel/fs/fuse/fuse.ko:\n";

TEST(Modules, NeedsLoadFirstAndOnce) {
  constexpr WantedModule wanted[] = {{"virtio_pci", ModuleNeed::required}, {"virtiofs", ModuleNeed::required}};
  EXPECT_THAT(module_load_order(dep, "", wanted),
              ElementsAre("kernel/drivers/virtio/virtio_ring.ko", "kernel/drivers/virtio/virtio.ko",
                          "kernel/drivers/virtio/virtio_pci_modern_dev.ko", "kernel/drivers/virtio/virtio_pci.ko",
                          "kernel/fs/fuse/fuse.ko", "kernel/fs/fuse/virtiofs.ko"));
}

TEST(Modules, DashAndUnderscoreAreTheSame) {
  constexpr WantedModule wanted[] = {{"virtio_rng", ModuleNeed::required}};
  const auto order = module_load_order(dep, "", wanted);
  ASSERT_EQ(order.size(), 3u);
  EXPECT_EQ(order.back(), "kernel/drivers/char/hw_random/virtio-rng.ko.xz");
}

TEST(Modules, BuiltInOnesNeedNoFile) {
  constexpr WantedModule wanted[] = {{"ext4", ModuleNeed::required}, {"virtio-rng", ModuleNeed::required}};
  EXPECT_THAT(module_load_order("", "kernel/fs/ext4/ext4.ko\nkernel/drivers/char/hw_random/virtio-rng.ko\n", wanted),
              IsEmpty());
}

TEST(Modules, MissingOnesAreNamedUnlessOptional) {
  constexpr WantedModule optional[] = {{"vmgenid", ModuleNeed::optional}};
  EXPECT_THAT(module_load_order(dep, "", optional), IsEmpty());
  constexpr WantedModule required[] = {{"virtio_net", ModuleNeed::required}};
  try {
    module_load_order(dep, "", required);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.message(), HasSubstr("no module 'virtio_net'"));
  }
}

TEST(Modules, BootNeedsDiskPortNetworkAndWorkspace) {
  for (const auto* name : {"virtio_blk", "virtio_console", "virtio_net", "virtiofs", "ext4"}) {
    const auto list = boot_modules();
    const auto found =
        std::find_if(list.begin(), list.end(), [&](const WantedModule& module) { return module.name == name; });
    ASSERT_NE(found, list.end()) << name;
    EXPECT_EQ(found->need, ModuleNeed::required) << name;
  }
}

TEST(Modules, CompressedOnesAreUnpacked) {
  const auto folder = fs::temp_directory_path() / ("modules-" + random_hex(6));
  fs::create_directories(folder);
  std::string text = "\177ELF";
  for (int i = 0; i < 100000; ++i) text += static_cast<char>(i * 7);
  const auto deadline = Deadline::after(std::chrono::seconds(20));
  for (const auto& [program, extension] : {std::pair("xz", ".xz"), {"zstd", ".zst"}, {"gzip", ".gz"}, {"cat", ""}}) {
    const auto file = folder / (std::string("m.ko") + extension);
    std::vector<std::string> argv = {program};
    if (*extension) argv.push_back("-c");
    write_file_atomic(file, run({.argv = argv}, deadline, text).out);
    EXPECT_EQ(read_module(file), text) << program;
  }
  write_file_atomic(folder / "bad.ko.xz", "no xz file");
  EXPECT_THROW(read_module(folder / "bad.ko.xz"), Error);
  remove_tree(folder);
}

TEST(Modules, OneKernelIsNeeded) {
  const auto tree = fs::temp_directory_path() / ("tree-" + random_hex(6));
  fs::create_directories(tree / "lib" / "modules");
  EXPECT_THROW(kernel_version(tree), Error);
  fs::create_directories(tree / "lib" / "modules" / "6.1.0-1");
  EXPECT_EQ(kernel_version(tree), "6.1.0-1");
  fs::create_directories(tree / "lib" / "modules" / "6.1.0-2");
  EXPECT_THROW(kernel_version(tree), Error);
  remove_tree(tree);
}

}  // namespace
}  // namespace agentvm
