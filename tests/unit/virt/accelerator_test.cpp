#include "vmm/accelerator/accelerator.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"

namespace agentvm {
namespace {

using ::testing::HasSubstr;

class AcceleratorTest : public ::testing::Test {
 protected:
  AcceleratorTest() {
    for (const char* name : {"kernel", "initrd", "emulator", "firmware"}) write_file_atomic(folder / name, name);
    probes.device = [this] { return AcceleratorEvidence{"device", device_works, "the device"}; };
    probes.loop = [this](Deadline) { return AcceleratorEvidence{"loop", loop_works, "the loop"}; };
    probes.boot = [this](const TrialImage&, Deadline) {
      ++boots;
      return AcceleratorEvidence{"boot", boot_works, "the boot"};
    };
  }
  ~AcceleratorTest() override { remove_tree(folder); }

  AcceleratorVerdict decide(AcceleratorChoice choice = AcceleratorChoice::automatic) {
    return decide_accelerator(choice, image, {folder / "emulator", folder / "firmware"},
                              folder / "host" / "accelerator.json", probes, Deadline::after(milliseconds(1000)));
  }
  static fs::path make_folder() {
    const auto path = fs::temp_directory_path() / ("avm-accelerator-" + random_hex(4));
    ensure_private_dir(path);
    return path;
  }

  fs::path folder = make_folder();
  std::optional<TrialImage> image = TrialImage{folder / "kernel", folder / "initrd"};
  bool device_works = true, loop_works = true, boot_works = true;
  int boots = 0;
  AcceleratorProbes probes;
};

TEST_F(AcceleratorTest, EverythingWorks) {
  const auto verdict = decide();
  EXPECT_EQ(verdict.accelerator, Accelerator::kvm);
  EXPECT_EQ(verdict.evidence.size(), 3u);
  EXPECT_FALSE(verdict.from_cache);
}

TEST_F(AcceleratorTest, TheFirstFailureEndsItAndIsTheReason) {
  boot_works = false;
  EXPECT_THAT(decide().reason, HasSubstr("the boot"));
  fs::remove(folder / "host" / "accelerator.json");
  loop_works = false;
  boots = 0;
  const auto verdict = decide();
  EXPECT_EQ(verdict.accelerator, Accelerator::tcg);
  EXPECT_EQ(verdict.reason, "the loop");
  EXPECT_EQ(verdict.evidence.size(), 2u);
  EXPECT_EQ(boots, 0);
  fs::remove(folder / "host" / "accelerator.json");
  device_works = false;
  EXPECT_EQ(decide().reason, "the device");
}

TEST_F(AcceleratorTest, IsDecidedOncePerHostBootAndImage) {
  decide();
  const auto again = decide();
  EXPECT_TRUE(again.from_cache);
  EXPECT_EQ(again.accelerator, Accelerator::kvm);
  EXPECT_EQ(again.evidence.size(), 3u);
  EXPECT_EQ(boots, 1);
  write_file_atomic(folder / "kernel", "another kernel");
  EXPECT_FALSE(decide().from_cache);
  write_file_atomic(folder / "emulator", "an update");
  EXPECT_FALSE(decide().from_cache);
  EXPECT_EQ(boots, 3);
}

TEST_F(AcceleratorTest, AVerdictOfAnotherHostBootDoesNotCount) {
  decide();
  const auto file = folder / "host" / "accelerator.json";
  auto text = read_file(file);
  const auto at = text.find("\"boot_id\": \"") + 12;
  text[at] = text[at] == '0' ? '1' : '0';
  write_file_atomic(file, text);
  EXPECT_FALSE(decide().from_cache);
}

TEST_F(AcceleratorTest, ADamagedCacheIsMadeAnew) {
  ensure_private_dir(folder / "host");
  for (const char* text : {"", "{", "[]", "{\"schema\": 1}", "{\"schema\": \"agentvm.accelerator/1\"}"}) {
    write_file_atomic(folder / "host" / "accelerator.json", text);
    EXPECT_FALSE(decide().from_cache) << text;
    EXPECT_TRUE(decide().from_cache) << text;
  }
}

TEST_F(AcceleratorTest, WithoutAnImageNothingIsProvenNorKept) {
  image.reset();
  const auto verdict = decide();
  EXPECT_EQ(verdict.accelerator, Accelerator::tcg);
  EXPECT_THAT(verdict.reason, HasSubstr("not proven"));
  EXPECT_FALSE(fs::exists(folder / "host" / "accelerator.json"));
}

TEST_F(AcceleratorTest, ForcedKvmNeedsProof) {
  loop_works = false;
  try {
    decide(AcceleratorChoice::kvm);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::host_lacks);
    EXPECT_THAT(error.message(), HasSubstr("the loop"));
  }
}

TEST_F(AcceleratorTest, ForcedEmulationTriesNothing) {
  EXPECT_EQ(decide(AcceleratorChoice::tcg).accelerator, Accelerator::tcg);
  EXPECT_EQ(boots, 0);
}

TEST(AcceleratorChoiceTest, Parses) {
  EXPECT_EQ(parse_accelerator_choice("auto"), AcceleratorChoice::automatic);
  EXPECT_EQ(parse_accelerator_choice("kvm"), AcceleratorChoice::kvm);
  EXPECT_EQ(parse_accelerator_choice("tcg"), AcceleratorChoice::tcg);
  EXPECT_THROW(parse_accelerator_choice("hvf"), Error);
}

TEST(KvmDevice, AFileThatIsNoDevice) {
  EXPECT_FALSE(probe_kvm_device("/dev/null").passed);
  EXPECT_FALSE(probe_kvm_device("/nonexistent").passed);
}

}  // namespace
}  // namespace agentvm
