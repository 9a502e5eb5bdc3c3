// Which template fits, and what becomes of one that is not as it was written.

#include "cli/manager/ops/template_store.hpp"

#include <functional>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::manager {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

TemplateShape sample_shape() {
  TemplateShape shape;
  shape.image = "d1";
  shape.root = "/data/images/d1/root.raw";
  shape.guest = "g1";
  shape.layer = "l1";
  shape.memory_bytes = 1u << 30;
  shape.vcpus = 2;
  shape.accelerator = "tcg";
  shape.nested = true;
  shape.network = "restricted";
  shape.emulator = "qemu 1";
  shape.libvirt = "9.0.0";
  shape.host = "";
  shape.definition = "x1";
  shape.version = "1.0";
  shape.uid = 1000;
  return shape;
}

class TemplateStoreTest : public ::testing::Test {
 protected:
  MachineTemplate make(const TemplateShape& shape = sample_shape(), const std::string& nonce = "nonce") {
    const auto made = store.begin();
    MachineTemplate names;
    names.folder = made;
    write_file_atomic(names.devices(), "devices");
    write_file_atomic(names.memory(), std::string(1u << 20, 'm'));
    write_file_atomic(names.disk(), "disk");
    return store.publish(made, shape, nonce, 1'700'000'000);
  }
  std::optional<MachineTemplate> find(const TemplateShape& shape = sample_shape()) { return store.find(shape, why); }

  const test::TemporaryFolder folder;
  const TemplateStore store{folder.path()};
  std::string why;
};

TEST_F(TemplateStoreTest, WhatWasMadeIsFound) {
  EXPECT_FALSE(find());
  EXPECT_THAT(why, HasSubstr("no template of its shape yet"));
  const auto made = make();
  const auto found = find();
  ASSERT_TRUE(found);
  EXPECT_EQ(found->key, sample_shape().key());
  EXPECT_EQ(found->nonce, "nonce");
  EXPECT_EQ(found->created, 1'700'000'000);
  EXPECT_GE(found->size_bytes, 1u << 20);
  EXPECT_EQ(fs::status(made.folder).permissions(), fs::perms(0700));
  EXPECT_EQ(make(sample_shape(), "another").nonce, "another") << "a newer one takes its place";
  EXPECT_THAT(store.list(), SizeIs(1));
}

// Its disk and its memory are copied one after the other.
TEST_F(TemplateStoreTest, ANewerOneInItsPlaceIsNotTakenForIt) {
  const auto made = make();
  EXPECT_TRUE(store.is_still(made));
  make(sample_shape(), "another");
  EXPECT_FALSE(store.is_still(made));
  store.remove(made.key);
  EXPECT_FALSE(store.is_still(made));
}

TEST_F(TemplateStoreTest, EveryPartOfTheShapeCounts) {
  make();
  const std::vector<std::function<void(TemplateShape&)>> changes = {
      [](auto& s) { s.image = "d2"; },        [](auto& s) { s.root = "/elsewhere/root.raw"; },
      [](auto& s) { s.guest = "g2"; },        [](auto& s) { s.layer = ""; },
      [](auto& s) { s.memory_bytes += 1; },   [](auto& s) { s.vcpus = 1; },
      [](auto& s) { s.accelerator = "kvm"; }, [](auto& s) { s.nested = false; },
      [](auto& s) { s.network = "open"; },    [](auto& s) { s.emulator = "qemu 2"; },
      [](auto& s) { s.libvirt = "9.0.1"; },   [](auto& s) { s.host = "another"; },
      [](auto& s) { s.definition = "x2"; },   [](auto& s) { s.version = "1.1"; },
      [](auto& s) { s.uid = 1001; }};
  EXPECT_EQ(changes.size(), sample_shape().to_json().size());
  for (std::size_t i = 0; i < changes.size(); ++i) {
    auto shape = sample_shape();
    changes[i](shape);
    EXPECT_FALSE(find(shape)) << i;
  }
  EXPECT_TRUE(find());
}

TEST_F(TemplateStoreTest, WhatIsNotAsItWasWrittenIsRemoved) {
  const std::vector<std::function<void(const MachineTemplate&)>> damages = {
      [](const auto& one) { fs::resize_file(one.devices(), 3); },
      [](const auto& one) { write_file_atomic(one.devices(), "DEVICES"); },
      [](const auto& one) { fs::remove(one.devices()); },
      [](const auto& one) { fs::resize_file(one.memory(), 4096); },
      [](const auto& one) {
        fs::resize_file(one.memory(), 0);
        fs::resize_file(one.memory(), 1u << 20);
      },
      [](const auto& one) { fs::remove(one.disk()); },
      [](const auto& one) { write_file_atomic(one.folder / "template.json", "{"); },
      [](const auto& one) { write_file_atomic(one.folder / "template.json", R"({"schema":"agentvm.template/2"})"); },
      [](const auto& one) {
        auto json = parse_json(read_file(one.folder / "template.json"), "it");
        json["shape"]["emulator"] = "qemu 0";
        write_file_atomic(one.folder / "template.json", dump_json(json));
      }};
  for (std::size_t i = 0; i < damages.size(); ++i) {
    const auto made = make();
    damages[i](made);
    EXPECT_FALSE(find()) << i;
    EXPECT_THAT(why, HasSubstr("cannot be used and is removed")) << i;
    EXPECT_FALSE(fs::exists(made.folder)) << i;
  }
}

TEST_F(TemplateStoreTest, InterruptedOnesAreSweptAndNeverSeen) {
  const auto left = store.begin();
  write_file_atomic(left / "memory", "half");
  EXPECT_THAT(store.list(), SizeIs(0));
  make();
  EXPECT_FALSE(fs::exists(left));
}

TEST_F(TemplateStoreTest, TheLastUsedStay) {
  std::vector<MachineTemplate> all;
  for (unsigned i = 0; i < 3; ++i) {
    auto shape = sample_shape();
    shape.vcpus = i + 1;
    all.push_back(make(shape));
    const timespec times[2] = {{100 + i, 0}, {100 + i, 0}};
    ::utimensat(AT_FDCWD, (all.back().folder / "template.json").c_str(), times, 0);
  }
  store.note_use(all[0]);
  EXPECT_GT(store.trim(2, [](const MachineTemplate&) { return true; }), 0u);
  EXPECT_TRUE(fs::exists(all[0].folder));
  EXPECT_FALSE(fs::exists(all[1].folder));
  EXPECT_TRUE(fs::exists(all[2].folder));
  store.trim(2, [](const MachineTemplate& one) { return value_or<unsigned>(one.shape, "vcpus", 0) == 3; });
  EXPECT_THAT(store.list(), SizeIs(1));
  EXPECT_THROW(store.remove("../elsewhere"), Error);
}

}  // namespace
}  // namespace agentvm::manager
