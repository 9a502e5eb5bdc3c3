// A machine that comes up as nobody's, is saved, and goes on as two others: the built image on libvirt's embedded
// driver. Shows that they share nothing that a template gave them, and that one which nobody talks to ends.

#include <cstdlib>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "guest/control/control.hpp"
#include "tests/support/temporary_folder.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/process.hpp"
#include "vmm/disk/overlay.hpp"
#include "vmm/disk/sparse_copy.hpp"
#include "vmm/libvirt/libvirt_hypervisor.hpp"
#include "vmm/virtiofs/mapped_process.hpp"
#include "vmm/virtiofs/virtiofsd.hpp"

namespace agentvm::guest {
namespace {

using test::error_of;

constexpr int boot_seconds = 240;  // emulated, and the machine that runs the tests may be busy

Deadline in_seconds(int seconds) {
  return Deadline::after(std::chrono::seconds(seconds));
}

fs::path image() {
  const char* folder = std::getenv("AGENTVM_TEST_IMAGE");
  if (folder && fs::exists(fs::path(folder) / "kernel")) return folder;
  throw Error(ErrorCode::host_lacks, "AGENTVM_TEST_IMAGE names no image folder (kernel, initrd, root.raw)",
              "./bootstrap image");
}

std::string uuid(unsigned number) {
  return fmt::format("00000000-0000-4000-8000-{:012x}", number);
}

Identity neutral() {
  Identity identity;
  identity.hostname = "nobody";
  identity.machine_id = std::string(32, '0');
  identity.network = GuestNetwork();
  identity.for_template = true;
  identity.files.push_back({"/etc/systemd/system/ssh.service.d/50-agentvm-key.conf", 0644, 0, 0,
                            "[Unit]\nConditionPathExists=/etc/ssh/ssh_host_ed25519_key\n"});
  return identity;
}

Identity own(const std::string& name, const fs::path& folder, WorkspaceKind workspace) {
  ProcessSpec spec;
  spec.argv = {"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", (folder / name).string()};
  run_checked(spec, in_seconds(20));
  Identity identity;
  identity.hostname = name;
  identity.machine_id = random_hex(16);
  identity.host_key_private = read_file(folder / name);
  identity.host_key_public = identity.authorized_keys = read_file(folder / (name + ".pub"));
  identity.network = GuestNetwork();
  identity.workspace = workspace;
  identity.entropy = random_hex(identity_entropy_bytes / 2);
  return identity;
}

/// A process can run one embedded root only.
const fs::path& libvirt_folder() {
  static const test::TemporaryFolder folder;
  return folder.path();
}

class Template : public ::testing::Test {
 protected:
  void SetUp() override {
    hypervisor = open_libvirt({"auto", libvirt_folder() / "libvirt", find_machine_platform()}, in_seconds(60));
    if (!hypervisor->capabilities().contains(HypervisorCapability::state))
      GTEST_SKIP() << "this QEMU (8.1 or 8.2) cannot save machines";
  }
  void TearDown() override {
    for (const auto& name : started) hypervisor->stop(name, in_seconds(30));
  }

  MachineSpec machine(const std::string& name) {
    started.push_back(name);
    MachineSpec spec;
    spec.domain = name;
    spec.id = uuid(static_cast<unsigned>(started.size()));
    spec.memory = ByteSize::mebibytes(768);
    spec.kernel = image() / "kernel";
    spec.initrd = image() / "initrd";
    spec.cmdline = "console=ttyS0 quiet loglevel=4 panic=5 no_timer_check net.ifnames=0";
    spec.disks.push_back({.path = disk(name),
                          .format = DiskFormat::qcow2,
                          .backing = image() / "root.raw",
                          .backing_format = DiskFormat::raw,
                          .serial = "agentvm-root"});
    spec.serial_socket = folder / (name + ".serial");
    spec.agent_socket = folder / (name + ".agent");
    // Only ports of other tests at the same time could collide; below the range that the system hands out.
    spec.ssh_port = static_cast<std::uint16_t>(20000 + std::stoul(random_hex(2), nullptr, 16) % 12000);
    return spec;
  }
  fs::path disk(const std::string& name) const { return folder / (name + ".qcow2"); }

  void make() {
    create_overlay(disk("avm-template"), image() / "root.raw", DiskFormat::raw, ByteSize(), in_seconds(30));
    const auto spec = machine("avm-template");
    hypervisor->start(spec, Hypervisor::Start::paused, in_seconds(60));
    auto control = Control::connect(spec.agent_socket, in_seconds(10));
    hypervisor->resume(spec.domain, in_seconds(20));
    control->hello(in_seconds(boot_seconds));
    control->identify(neutral(), in_seconds(60));
    control->wait_until("userspace", in_seconds(boot_seconds));
    EXPECT_EQ(error_of([&] { control->exec({.argv = {"true"}}, in_seconds(20)); })->code(), ErrorCode::wrong_state);
    EXPECT_EQ(error_of([&] { control->wait_until("ssh", Deadline::after(milliseconds(500))); })->code(),
              ErrorCode::timed_out);
    control->freeze("nonce-of-it", in_seconds(30));
    control.reset();
    hypervisor->pause(spec.domain, in_seconds(20));
    hypervisor->save_state(spec.domain, state, in_seconds(60));
    hypervisor->stop(spec.domain, in_seconds(20));
  }
  /// Paused, with the template's state.
  MachineSpec load(const std::string& name) {
    copy_sparse_file(disk("avm-template"), disk(name), in_seconds(30));
    auto spec = machine(name);
    spec.begin = MachineSpec::Begin::state;
    hypervisor->start(spec, Hypervisor::Start::paused, in_seconds(60));
    hypervisor->load_state(spec.domain, state, in_seconds(60));
    return spec;
  }

  const test::TemporaryFolder folder;
  const MachineState state{folder / "devices", folder / "memory", folder / "transfer"};
  std::shared_ptr<Hypervisor> hypervisor;
  std::vector<std::string> started;
};

std::string output(Control& control, const std::string& script, const std::string& user = "") {
  const auto result = control.exec({.argv = {"/bin/sh", "-c", script}, .user = user}, in_seconds(60));
  EXPECT_EQ(result.code, 0) << script << ": " << result.err;
  return result.out;
}

TEST_F(Template, TwoGoOnAndShareNothing) {
  make();
  ensure_private_dir(folder / "workspace");
  write_file_atomic(folder / "workspace" / "hello", "from the host", 0644);
  give_tree_to_workspace_owner(folder / "workspace");
  auto daemon = start_virtiofsd({folder / "workspace", folder / "fs.sock", folder / "virtiofsd.log", host_id_map()},
                                in_seconds(20));
  std::vector<std::vector<std::string>> seen;
  for (const std::string name : {"one", "two"}) {
    const bool shared = name == "one";
    const auto spec = load("avm-" + name);
    if (shared) hypervisor->plug(spec.domain, {"workspace", folder / "fs.sock"}, in_seconds(20));
    const auto control = Control::connect(spec.agent_socket, in_seconds(10));
    const auto begin = std::chrono::steady_clock::now();
    hypervisor->resume(spec.domain, in_seconds(20));
    const auto hello = control->hello(in_seconds(60));
    EXPECT_EQ(hello.stage, Hello::Stage::waiting);
    const auto wanted = own(name, folder.path(), shared ? WorkspaceKind::virtiofs : WorkspaceKind::disk);
    control->identify(wanted, in_seconds(60));
    control->wait_until("ssh", in_seconds(120));
    const auto span = std::chrono::steady_clock::now() - begin;
    RecordProperty(name + "-milliseconds", static_cast<int>(std::chrono::duration_cast<milliseconds>(span).count()));
    control->wait_until("workspace", in_seconds(60));
    if (shared) {
      EXPECT_EQ(output(*control, "cat /workspace/hello", "agent"), "from the host");
    }
    EXPECT_EQ(output(*control, "cat /run/agentvm/template"), "nonce-of-it\n");
    EXPECT_EQ(output(*control, "cat /etc/ssh/ssh_host_ed25519_key"), wanted.host_key_private);
    EXPECT_EQ(output(*control, "cat /home/agent/.ssh/authorized_keys"), wanted.authorized_keys);
    EXPECT_EQ(output(*control, "cat /etc/machine-id; hostname; cat /etc/hostname"),
              fmt::format("{}\n{}\n{}\n", wanted.machine_id, name, name));
    const auto seconds = static_cast<double>(control->time(in_seconds(20))) / 1e9;
    EXPECT_NEAR(seconds, static_cast<double>(system_clock().unix_seconds()), 2);
    seen.push_back({output(*control, "cat /proc/sys/kernel/random/boot_id"),
                    output(*control, "head -c 32 /dev/urandom | od -An -tx1"),
                    output(*control, "cat /var/lib/systemd/random-seed"), hello.boot_id});
  }
  for (std::size_t i = 0; i < 3; ++i) EXPECT_NE(seen[0][i], seen[1][i]) << i;
  EXPECT_EQ(seen[0][3], seen[1][3]) << "before they had an identity they were the same";
  EXPECT_NE(seen[0][0], seen[0][3] + "\n");
  for (const auto* name : {"avm-one", "avm-two"}) hypervisor->stop(name, in_seconds(20));
}

TEST_F(Template, OneThatNobodyTalksToEnds) {
  make();
  const auto spec = load("avm-alone");
  hypervisor->resume(spec.domain, in_seconds(20));
  const auto limit = in_seconds(240);
  while (hypervisor->find(spec.domain, in_seconds(20)) && !limit.expired()) system_clock().sleep(milliseconds(500));
  EXPECT_FALSE(hypervisor->find(spec.domain, in_seconds(20)));
}

}  // namespace
}  // namespace agentvm::guest
