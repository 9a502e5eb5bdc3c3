// Machines that go on where another one was: saved by the embedded driver, and loaded into others.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/contract/virt/support.hpp"
#include "tests/support/temporary_folder.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/unix_socket.hpp"
#include "vmm/disk/overlay.hpp"
#include "vmm/virtiofs/mapped_process.hpp"
#include "vmm/virtiofs/virtiofsd.hpp"

namespace agentvm::test {
namespace {

using ::testing::HasSubstr;
using Start = Hypervisor::Start;

/// A process can run one embedded root only, so all tests share this one.
const fs::path& shared_folder() {
  static const TemporaryFolder folder;
  return folder.path();
}

struct Count {
  std::string number;
  int count = -1;
};

/// Reads a machine's console.
class Console {
 public:
  explicit Console(const fs::path& socket) : fd_(connect_unix(socket, in_seconds(5))) {}
  std::string line_with(const std::string& word) {
    const auto deadline = in_seconds(90);
    for (;;) {
      auto line = read_line(fd_.get(), deadline);
      if (line.find(word) != line.npos) return line;
    }
  }
  Count count() {
    const auto line = line_with("probe: count ");
    const auto start = line.find("count ") + 6;
    return {line.substr(start, 36), std::stoi(line.substr(start + 37))};
  }

 private:
  UniqueFd fd_;
};

class SavedState : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { make_probe_guest(shared_folder()); }
  void SetUp() override {
    if (!saves_machines(find_machine_platform())) GTEST_SKIP() << "this QEMU (8.1 or 8.2) cannot save machines";
    hypervisor = open_libvirt({"auto", shared_folder() / "libvirt", find_machine_platform()}, in_seconds(30));
  }
  void TearDown() override {
    for (const auto& name : started) hypervisor->stop(name, in_seconds(30));
  }
  MachineSpec machine(const std::string& name, MachineSpec::Begin begin = MachineSpec::Begin::state) {
    started.push_back(name);
    auto spec = probe_machine(shared_folder(), name, "count");
    spec.begin = begin;
    return spec;
  }
  /// Of a machine that has counted a little; what it last said.
  Count save() {
    const auto spec = machine("avm-source", MachineSpec::Begin::boot);
    hypervisor->start(spec, Start::paused, in_seconds(60));
    Console console(spec.serial_socket);
    hypervisor->resume(spec.domain, in_seconds(20));
    Count last;
    while (last.count < 3) last = console.count();
    hypervisor->pause(spec.domain, in_seconds(20));
    hypervisor->save_state(spec.domain, state, in_seconds(60));
    hypervisor->stop(spec.domain, in_seconds(20));
    return last;
  }

  const TemporaryFolder folder;
  const MachineState state{folder / "devices", folder / "memory", folder / "transfer"};
  std::shared_ptr<Hypervisor> hypervisor;
  std::vector<std::string> started;
};

TEST_F(SavedState, EachMachineGoesOnByItself) {
  const auto last = save();
  const auto length = fs::file_size(state.memory), memory = ByteSize::mebibytes(256).bytes();
  if (read_file(state.devices) == "mapped-ram") {  // firmware, bitmaps and devices are in there, too
    EXPECT_GT(length, memory);
    EXPECT_LT(length, memory + ByteSize::mebibytes(16).bytes());
  } else {
    EXPECT_EQ(length, memory);
  }
  EXPECT_LT(allocated_bytes(state.memory), ByteSize::mebibytes(200).bytes());
  EXPECT_EQ(fs::status(state.memory).permissions(), fs::perms(0600));
  const auto one = machine("avm-one"), two = machine("avm-two");
  for (const auto& spec : {one, two}) {
    hypervisor->start(spec, Start::paused, in_seconds(60));
    hypervisor->load_state(spec.domain, state, in_seconds(60));
    EXPECT_EQ(hypervisor->find(spec.domain, in_seconds(20))->state, DomainState::paused);
    EXPECT_EQ(hypervisor->find(spec.domain, in_seconds(20))->id, spec.id);
  }
  for (const auto& spec : {one, two}) {
    Console console(spec.serial_socket);
    hypervisor->resume(spec.domain, in_seconds(20));
    const auto first = console.count();
    EXPECT_EQ(first.number, last.number);
    EXPECT_GT(first.count, last.count);
    EXPECT_LT(first.count, last.count + 10);
    EXPECT_GT(console.count().count, first.count);
  }
  EXPECT_FALSE(fs::exists(state.socket));
}

TEST_F(SavedState, AShareComesAfterwards) {
  save();
  const auto spec = machine("avm-one");
  ensure_private_dir(folder / "workspace");
  write_file_atomic(folder / "workspace" / "hello", "from the host", 0644);
  give_tree_to_workspace_owner(folder / "workspace");
  const auto socket = folder / "fs.sock";
  hypervisor->start(spec, Start::paused, in_seconds(60));
  hypervisor->load_state(spec.domain, state, in_seconds(60));
  auto daemon =
      start_virtiofsd({folder / "workspace", socket, folder / "virtiofsd.log", host_id_map()}, in_seconds(20));
  hypervisor->plug(spec.domain, {"workspace", socket}, in_seconds(20));
  Console console(spec.serial_socket);
  hypervisor->resume(spec.domain, in_seconds(20));
  EXPECT_THAT(console.line_with("probe: share"), HasSubstr("from the host"));
  hypervisor->stop(spec.domain, in_seconds(20));
}

TEST_F(SavedState, OneWhoseSavingWasGivenUpGoesOnAndCanBeSavedAgain) {
  const auto spec = machine("avm-source", MachineSpec::Begin::boot);
  hypervisor->start(spec, Start::paused, in_seconds(60));
  Console console(spec.serial_socket);
  hypervisor->resume(spec.domain, in_seconds(20));
  console.count();
  hypervisor->pause(spec.domain, in_seconds(20));
  // Whether it comes to an end within that time or not.
  error_of([&] { hypervisor->save_state(spec.domain, state, Deadline::after(milliseconds(50))); });
  hypervisor->resume(spec.domain, in_seconds(20));
  const auto first = console.count();
  while (console.count().count < first.count + 3) {
  }
  EXPECT_EQ(hypervisor->find(spec.domain, in_seconds(20))->state, DomainState::running);
  hypervisor->pause(spec.domain, in_seconds(20));
  const MachineState again{folder / "devices-2", folder / "memory-2", folder / "transfer-2"};
  hypervisor->save_state(spec.domain, again, in_seconds(60));
  EXPECT_TRUE(fs::exists(again.devices));
}

TEST_F(SavedState, WhatIsDamagedIsAnErrorAndTheMachineCanBeStopped) {
  save();
  const auto whole = read_file(state.devices);
  const auto fails = [&](const std::string& name, const MachineState& from) {
    const auto spec = machine(name);
    hypervisor->start(spec, Start::paused, in_seconds(60));
    EXPECT_TRUE(error_of([&] { hypervisor->load_state(spec.domain, from, in_seconds(10)); })) << name;
    hypervisor->stop(spec.domain, in_seconds(20));
    EXPECT_FALSE(hypervisor->find(spec.domain, in_seconds(20)));
  };
  write_file_atomic(state.devices, whole.substr(0, whole.size() / 2));
  fails("avm-short", state);
  write_file_atomic(state.devices, whole);
  fails("avm-none", {folder / "absent", state.memory, state.socket});
  fs::resize_file(state.memory, 4096);
  fails("avm-small", state);
}

}  // namespace
}  // namespace agentvm::test
