// The agent in a real machine: QEMU without libvirt, the built image, the virtio-serial port as a unix socket. Shows
// that the port answers before network and ssh, and what happens when something fails.
#include <csignal>
#include <cstdlib>

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "guest/control/control.hpp"
#include "guest/control/serial_log.hpp"
#include "guest/protocol/frame.hpp"
#include "tests/support/temporary_folder.hpp"
#include "vmm/base/process.hpp"
#include "vmm/base/unix_socket.hpp"

namespace agentvm::guest {
namespace {

using test::error_of;
using testing::HasSubstr;

Deadline in_seconds(int seconds) {
  return Deadline::after(std::chrono::seconds(seconds));
}
constexpr int boot_seconds = 120;  // emulated, and the machine that runs the tests may be busy

fs::path image() {
  const char* folder = std::getenv("AGENTVM_TEST_IMAGE");
  if (folder && fs::exists(fs::path(folder) / "kernel")) return folder;
  throw Error(ErrorCode::host_lacks, "AGENTVM_TEST_IMAGE names no image folder (kernel, initrd, root.raw)",
              "./bootstrap image");
}

std::uint16_t free_port() {
  const UniqueFd fd(check_errno(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  check_errno(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size), "bind");
  check_errno(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size), "getsockname");
  return ntohs(address.sin_port);
}

/// What the guest's sshd says on the forwarded port; empty when nobody answers in time.
std::string ssh_banner(std::uint16_t port, int seconds) {
  const UniqueFd fd(check_errno(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) return "";
  char buffer[64];
  if (!wait_for(fd.get(), POLLIN, in_seconds(seconds))) return "";
  const ssize_t count = ::recv(fd.get(), buffer, sizeof buffer, 0);
  return count > 0 ? std::string(buffer, static_cast<std::size_t>(count)) : "";
}

class Machine {
 public:
  explicit Machine(const std::string& arguments = "") : port(free_port()) {
    const auto base = image();
    const auto socket = [&](const char* id) {
      return fmt::format("socket,id={},path={},server=on,wait=off", id,
                         (folder / (std::string(id) + ".sock")).string());
    };
    ProcessSpec spec;
    spec.argv = {"qemu-system-x86_64",
                 "-nodefaults",
                 "-no-user-config",
                 "-machine",
                 "q35",
                 "-accel",
                 "tcg,thread=multi",
                 "-cpu",
                 "max",
                 "-smp",
                 "2",
                 "-m",
                 "1024",
                 "-display",
                 "none",
                 "-no-reboot",
                 "-bios",
                 "/usr/share/qemu/qboot.rom",
                 "-kernel",
                 base / "kernel",
                 "-initrd",
                 base / "initrd",
                 "-append",
                 "console=ttyS0 quiet panic=-1 no_timer_check net.ifnames=0 " + arguments,
                 "-drive",
                 "if=none,id=root,format=raw,snapshot=on,file=" + (base / "root.raw").string(),
                 "-device",
                 "virtio-blk-pci,drive=root",
                 "-netdev",
                 fmt::format("user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:{}-:22", port),
                 "-device",
                 "virtio-net-pci,netdev=n,romfile=",
                 "-device",
                 "virtio-rng-pci",
                 "-device",
                 "virtio-serial-pci",
                 "-chardev",
                 socket("agent"),
                 "-device",
                 "virtserialport,chardev=agent,name=org.agentvm.agent.0",
                 "-chardev",
                 socket("serial"),
                 "-serial",
                 "chardev:serial"};
    spec.env = std::map<std::string, std::string>{{"PATH", "/usr/bin:/bin"}, {"TMPDIR", folder.path().string()}};
    spec.die_with_parent = true;
    process.emplace(Process::spawn(spec));
    ensure_private_dir(folder / "log");
    // A socket's file is there before QEMU listens on it; it makes them in the order of its arguments, the serial
    // line's last.
    const auto limit = in_seconds(20);
    const auto attach = [&] { serial.add("machine", folder / "serial.sock", folder / "log"); };
    while (const auto error = error_of(attach)) {
      if (limit.expired()) throw Error(*error);
      system_clock().sleep(milliseconds(10));
    }
  }
  ~Machine() {
    if (testing::Test::HasFailure()) std::fputs(console().c_str(), stderr);
    process->terminate(milliseconds(2000));
  }

  std::unique_ptr<Control> connect() { return Control::connect(folder / "agent.sock", in_seconds(10)); }
  std::string console() const { return serial.tail("machine", 16384); }

  test::TemporaryFolder folder;
  std::uint16_t port;
  SerialLogs serial;
  std::optional<Process> process;
};

Identity identity() {
  Identity result;
  result.hostname = "contract-box";
  result.machine_id = "0123456789abcdef0123456789abcdef";
  result.network = GuestNetwork{.resolv_conf = "nameserver 127.0.0.1\n"};
  result.workspace = WorkspaceKind::disk;
  result.files.push_back({"/etc/agentvm/contract", 0600, 1000, 1000, "applied\n"});
  return result;
}

/// A key pair of its own: sshd refuses to start without one.
void add_keys(Identity& wanted, const fs::path& folder) {
  ProcessSpec spec;
  spec.argv = {"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", (folder / "key").string()};
  run_checked(spec, in_seconds(20));
  wanted.host_key_private = read_file(folder / "key");
  wanted.host_key_public = read_file(folder / "key.pub");
  wanted.authorized_keys = wanted.host_key_public;
}

ControlExec shell(const std::string& script, const std::string& user = "") {
  return {.argv = {"/bin/sh", "-c", script}, .user = user};
}

std::string output(Control& control, const std::string& script, const std::string& user = "") {
  const auto result = control.exec(shell(script, user), in_seconds(60));
  EXPECT_EQ(result.code, 0) << script << ": " << result.err;
  return result.out;
}

void check_identity(Control& control, const Identity& wanted) {
  EXPECT_EQ(output(control, "uname -n; cat /etc/hostname /etc/machine-id"),
            "contract-box\ncontract-box\n" + wanted.machine_id + "\n");
  EXPECT_EQ(output(control, "cat /etc/ssh/ssh_host_ed25519_key; stat -c %a /etc/ssh/ssh_host_ed25519_key"),
            wanted.host_key_private + "600\n");
  EXPECT_EQ(
      output(control, "cat ~/.ssh/authorized_keys; cat /etc/agentvm/contract; id -un; stat -c %U /workspace", "agent"),
      wanted.authorized_keys + "applied\nagent\nagent\n");
  EXPECT_THAT(output(control, "cat /proc/net/fib_trie"), HasSubstr("10.0.2.15"));
  const auto seconds = control.time(in_seconds(20)) / 1'000'000'000;
  EXPECT_NEAR(static_cast<double>(seconds), static_cast<double>(system_clock().unix_seconds()), 5);
  EXPECT_EQ(output(control, "cat /proc/self/oom_score_adj"), "0\n") << "what we run is not protected as the agent is";
}

TEST(AgentBoot, AnswersBeforeNetworkAndSshAndOutlivesItsHost) {
  Machine machine;
  auto control = machine.connect();
  const auto hello = control->hello(in_seconds(boot_seconds));
  EXPECT_EQ(hello.stage, Hello::Stage::init);
  EXPECT_EQ(ssh_banner(machine.port, 1), "");
  auto wanted = identity();
  add_keys(wanted, machine.folder.path());
  control->identify(wanted, in_seconds(60));
  // Systemd is only starting: a program runs already, and nobody listens on port 22 (0x16).
  const auto listeners = output(*control, "cat /proc/net/tcp /proc/net/tcp6");
  EXPECT_EQ(listeners.find(":0016 "), std::string::npos);
  control->wait_until("ssh", in_seconds(boot_seconds));
  EXPECT_THAT(ssh_banner(machine.port, 30), HasSubstr("SSH-2.0"));
  control->wait_until("workspace", in_seconds(20));
  check_identity(*control, wanted);

  // The manager dies in the middle of a frame, with a program running.
  control.reset();
  {
    const auto raw = connect_unix(machine.folder / "agent.sock", in_seconds(10));
    write_all(raw.get(), encode({FrameType::request, 0, 1, R"({"op":"hello","nonce":"dying"})"}), in_seconds(10));
    write_all(raw.get(), encode({FrameType::request, 0, 2, R"({"op":"exec","argv":["/bin/sleep","7777"]})"}),
              in_seconds(10));
    write_all(raw.get(), encode({FrameType::request, 0, 3, std::string(200'000, ' ')}).substr(0, 5000), in_seconds(10));
  }
  control = machine.connect();
  EXPECT_EQ(control->hello(in_seconds(30)).stage, Hello::Stage::running);
  EXPECT_EQ(output(*control, "pgrep -f 'sleep 777[7]' || echo none"), "none\n");
  EXPECT_EQ(control->exec(shell("head -c 3000000 /dev/zero"), in_seconds(60), 4u << 20).out.size(), 3'000'000U);

  // The worker dies: the supervisor starts another, and the host hears of it.
  EXPECT_TRUE(error_of([&] { control->exec(shell("kill -9 $PPID; sleep 100"), in_seconds(30)); }));
  EXPECT_FALSE(control->alive());
  control = machine.connect();
  control->hello(in_seconds(30));
  control->wait_until("userspace", in_seconds(boot_seconds));

  control->shutdown(milliseconds(20'000), in_seconds(20));
  EXPECT_TRUE(machine.process->wait(in_seconds(90)));
}

TEST(AgentBoot, AnIdentityThatCannotBeAppliedNamesTheStepAndEndsTheMachine) {
  Machine machine;
  auto control = machine.connect();
  control->hello(in_seconds(boot_seconds));
  auto wanted = identity();
  wanted.workspace = WorkspaceKind::virtiofs;  // this machine has no such device
  const auto error = error_of([&] { control->identify(wanted, in_seconds(60)); });
  ASSERT_TRUE(error);
  EXPECT_THAT(error->what(), HasSubstr("preparing /workspace"));
  EXPECT_TRUE(machine.process->wait(in_seconds(30))) << "it powers off";
  EXPECT_THAT(machine.console(), HasSubstr("agentvm-guest: preparing /workspace failed"));
}

TEST(AgentBoot, AnswersTheAcceleratorTrialAndPowersOff) {
  Machine machine("agentvm.trial=nonce-17");
  EXPECT_TRUE(machine.process->wait(in_seconds(boot_seconds)));
  const auto limit = in_seconds(5);
  while (machine.console().find("agentvm-trial nonce-17") == std::string::npos && !limit.expired())
    system_clock().sleep(milliseconds(10));
  EXPECT_THAT(machine.console(), HasSubstr("agentvm-trial nonce-17"));
}

}  // namespace
}  // namespace agentvm::guest
