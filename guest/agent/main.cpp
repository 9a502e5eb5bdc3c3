// agentvm-guest: one static program. As process 1 it is the initramfs's init; in a running guest it also sends build
// products and records terminal sessions; on a host it only tells what it is.

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/agent/artifact_sender.hpp"
#include "guest/agent/init.hpp"
#include "guest/agent/nested_probe.hpp"
#include "guest/agent/recorder.hpp"
#include "guest/protocol/recording.hpp"
#include "vmm/base/files.hpp"

namespace {

using namespace agentvm;

constexpr unsigned nested_probe_seconds = 15;  // what hangs in the kernel's KVM is killed by nobody else

/// The initramfs that it came from is gone: a copy is how it can be run by others than its own process.
int install(const char* path) {
  constexpr std::size_t limit_bytes = 64u << 20;
  constexpr unsigned mode = 0755;
  ::umask(022);
  const fs::path target = path;
  fs::create_directories(target.parent_path());
  write_file_atomic(target, read_file("/proc/self/exe", limit_bytes), mode);
  return 0;
}

int artifacts(int argc, char** argv) {
  const std::vector<std::string> globs(argv + 4, argv + argc);
  guest::agent::send_artifacts(argv[2], globs, std::strtoul(argv[3], nullptr, 10), STDIN_FILENO, STDOUT_FILENO);
  return 0;
}

/// Of a session, by its name.
fs::path recording_folder(const std::string& session) {
  if (session.empty() || session.find_first_of("./") != session.npos)
    throw Error(ErrorCode::usage, "'" + session + "' is no session");
  return fs::path(guest::recordings_folder) / session;
}

int recording(char** argv) {
  guest::agent::send_recording(recording_folder(argv[2]), argv[3], std::strtoull(argv[4], nullptr, 10),
                               std::strtoul(argv[5], nullptr, 10), STDOUT_FILENO);
  return 0;
}

int run(int argc, char** argv) {
  const std::string_view verb = argc > 1 ? argv[1] : "";
  if (argc == 3 && verb == "install") return install(argv[2]);
  if (argc > 4 && verb == "artifacts") return artifacts(argc, argv);
  if (argc == 4 && verb == "record") {
    ::umask(077);  // what a terminal showed is its user's alone
    return guest::agent::record_terminal(recording_folder(argv[2]), argv[3], STDIN_FILENO);
  }
  if (argc == 6 && verb == "recording") return recording(argv);
  if (argc == 2 && verb == "nested-probe") {
    ::alarm(nested_probe_seconds);
    std::puts(dump_json(guest::agent::probe_nested()).c_str());
    return 0;
  }
  if (argc == 2 && verb == "--version") {
    std::puts("agentvm-guest " AGENTVM_VERSION);
    return 0;
  }
  std::fputs(
      "agentvm-guest runs as /init in a guest's initramfs, and there for the host; else it only answers --version\n",
      stderr);
  return 64;
}

}  // namespace

int main(int argc, char** argv) {
  if (::getpid() == 1) guest::agent::run_init();
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "agentvm-guest: %s\n", error.what());
    return 1;
  }
}
