#include "tests/contract/virt/support.hpp"

#include <cstdio>
#include <cstdlib>

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <unistd.h>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::test {
namespace {

/// One member of a cpio archive in the kernel's "newc" form, and its end.
std::string cpio_archive(const std::string& name, const std::string& content) {
  const auto member = [](const std::string& member_name, unsigned mode, const std::string& data) {
    auto text = fmt::format("070701{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}", 1,
                            mode, 0, 0, 1, 0, data.size(), 0, 0, 0, 0, member_name.size() + 1, 0);
    text += member_name + '\0';
    text.resize((text.size() + 3) & ~3u, '\0');
    text += data;
    text.resize((text.size() + 3) & ~3u, '\0');
    return text;
  };
  return member(name, 0100755, content) + member("TRAILER!!!", 0, "");
}

}  // namespace

fs::path test_image() {
  const char* value = std::getenv("AGENTVM_TEST_IMAGE");
  if (!value || !*value)
    throw Error(ErrorCode::host_lacks,
                "AGENTVM_TEST_IMAGE names no image folder {kernel, initrd, root.raw}: run the tests through ctest",
                "./bootstrap test");
  return value;
}

void make_probe_guest(const fs::path& folder) {
  const auto image = test_image();
  fs::copy_file(image / "kernel", folder / "kernel");
  auto initrd = read_file(image / "initrd", 256u << 20);
  initrd.resize((initrd.size() + 511) & ~std::size_t{511}, '\0');
  initrd += cpio_archive("agentvm-probe", read_file(PROBE_FILE));
  write_file_atomic(folder / "initrd", initrd, 0644);
  fs::permissions(folder / "kernel", fs::perms(0644));
}

bool saves_machines(const MachinePlatform& platform) {
  const auto said = run_checked({.argv = {platform.emulator.string(), "--version"}}, in_seconds(20));
  const std::string word = "version ";
  const auto at = said.find(word);
  int major = 0, minor = 0;
  if (at == said.npos || std::sscanf(said.c_str() + at + word.size(), "%d.%d", &major, &minor) != 2) return false;
  return major != 8 || minor == 0;
}

MachineSpec probe_machine(const fs::path& folder, const std::string& domain, const std::string& mode) {
  MachineSpec spec;
  spec.domain = domain;
  spec.id = random_uuid();
  spec.sandbox = "contract home='other'";
  spec.home = "contract-1";
  spec.memory = ByteSize::mebibytes(256);
  spec.kernel = folder / "kernel";
  spec.initrd = folder / "initrd";
  spec.cmdline = "console=ttyS0 quiet panic=-1 no_timer_check rdinit=/agentvm-probe probe.mode=" + mode;
  spec.serial_socket = folder / (domain + ".serial");
  spec.agent_socket = folder / (domain + ".agent");
  // Only ports of other tests at the same time could collide; below the range that the system hands out.
  spec.ssh_port = static_cast<std::uint16_t>(20000 + std::stoul(random_hex(2), nullptr, 16) % 12000);
  return spec;
}

std::string random_uuid() {
  auto hex = random_hex(16);
  hex[12] = '4';
  hex[16] = '8';
  return fmt::format("{}-{}-{}-{}-{}", hex.substr(0, 8), hex.substr(8, 4), hex.substr(12, 4), hex.substr(16, 4),
                     hex.substr(20));
}

ProcessSpec helper_process(std::vector<std::string> arguments, std::optional<HelperUser> user) {
  ProcessSpec spec;
  // Through /proc: another user need not be able to reach the build folder.
  spec.argv = {"/proc/self/exe", "--helper"};
  spec.argv.insert(spec.argv.end(), arguments.begin(), arguments.end());
  spec.cwd = "/";
  spec.fds = {{2, 2}};
  if (user) {
    spec.env = std::map<std::string, std::string>{{"PATH", "/usr/sbin:/usr/bin:/sbin:/bin"}, {"HOME", "/nonexistent"}};
    spec.in_child = [ids = *user] {
      if (::setgroups(0, nullptr) < 0 || ::setresgid(ids.gid, ids.gid, ids.gid) < 0 ||
          ::setresuid(ids.uid, ids.uid, ids.uid) < 0)
        return errno;
      return 0;
    };
  }
  return spec;
}

std::string read_line(int fd, Deadline deadline) {
  std::string line;
  char byte = 0;
  while (read_some(fd, &byte, 1, deadline) == 1 && byte != '\n') line += byte;
  return line;
}

std::string value_of(const std::string& text, const std::string& key) {
  const auto wanted = key + ": ";
  for (std::size_t start = 0; start < text.size();) {
    const auto end = std::min(text.find('\n', start), text.size());
    auto line = text.substr(start, end - start);
    while (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.starts_with(wanted)) return line.substr(wanted.size());
    start = end + 1;
  }
  return "(none)";
}

ThrowawayUser::ThrowawayUser() : name_("avm-" + random_hex(4)) {
  ProcessSpec spec;
  spec.argv = {"useradd", "--no-create-home", "--shell", "/usr/sbin/nologin", name_};
  run_checked(spec, in_seconds(20));
  const passwd* entry = ::getpwnam(name_.c_str());
  if (!entry) throw Error(ErrorCode::operation_failed, "useradd made no user " + name_);
  ids_ = {entry->pw_uid, entry->pw_gid};
}

ThrowawayUser::~ThrowawayUser() {
  ProcessSpec spec;
  spec.argv = {"userdel", name_};
  try {
    run_checked(spec, in_seconds(20));
  } catch (const Error& error) {
    fmt::print(stderr, "user {} is left behind: {}\n", name_, error.what());
  }
}

}  // namespace agentvm::test
