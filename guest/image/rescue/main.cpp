// agentvm-guestfs: reads a folder from the disk of a guest that is gone, through a libguestfs appliance.
//
//   agentvm-guestfs prepare FOLDER                          builds the appliance there (SUPERMIN_* name the kernel)
//   agentvm-guestfs read APPLIANCE DISK SCRATCH kvm|tcg     /workspace of the disk, as a tar archive, to descriptor 3;
//                                                         sockets go into XDG_RUNTIME_DIR
//
// Job: the appliance, and the bytes it sends. Not its job: what they mean (`agentvm-artifacts unpack`), what becomes of
// them. Flow: `prepare` runs supermin over the host's packages and our kernel and sees no guest's byte. `read` enters
// walls.cpp, starts QEMU within them, closes the gates, and only then mounts. Standard output gets the lines of
// wire.hpp. Limits: walls.cpp; time is the caller's, who kills the process group. Threads: one.
#include <csignal>
#include <cstdlib>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <unistd.h>

#include "guest/image/rescue/appliance.hpp"
#include "guest/image/rescue/walls.hpp"
#include "guest/image/wire.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/process.hpp"

namespace agentvm {
namespace {

constexpr int archive_fd = 3;
constexpr auto longest_build = std::chrono::minutes(10);

/// The folder of an appliance: one that somebody made and installed, else built by supermin into `folder`.
fs::path prepare(const fs::path& folder) {
  for (const auto& place : rescue::libguestfs_folders()) {
    if (fs::exists(place / "README.fixed")) return place;
    if (!fs::is_directory(place / "supermin.d")) continue;
    // supermin looks at it although it is told of another one; containers have none.
    if (!fs::is_directory("/lib/modules"))
      throw Error(ErrorCode::host_lacks, "libguestfs needs the folder /lib/modules, empty or not",
                  "sudo mkdir -p /lib/modules");
    run_checked({.argv = {"supermin", "--build", "--if-newer", "--copy-kernel", "-f", "ext2", "--host-cpu",
                          AGENTVM_HOST_CPU, (place / "supermin.d").string(), "-o", (folder / "appliance").string()},
                 .die_with_parent = true},
                Deadline::after(longest_build));
    // By this file libguestfs knows that there is nothing to build.
    write_file_atomic(folder / "appliance/README.fixed", "Built by agentvm for the rescue of guests' disks.\n");
    return folder / "appliance";
  }
  throw Error(ErrorCode::host_lacks, "the appliance of libguestfs is not installed",
              "sudo apt-get install libguestfs-dev");
}

[[noreturn]] void read_disk(const std::vector<std::string>& arguments, const Progress& progress) {
  const char* sockets = std::getenv("XDG_RUNTIME_DIR");
  rescue::enter_walls({arguments[4], sockets ? sockets : arguments[4]});
  report(progress, "rescue", "starting the rescue appliance");
  rescue::Appliance appliance(
      {.appliance = arguments[2], .disk = arguments[3], .scratch = arguments[4], .emulated = arguments[5] != "kvm"});
  appliance.launch();
  rescue::close_gates();
  int code = 0;
  try {
    report(progress, "rescue", "reading the disk");
    appliance.send_folder("/workspace", archive_fd);
    print_result(STDOUT_FILENO, Json::object());
  } catch (const Error& error) {
    print_error(STDOUT_FILENO, error);
    code = exit_code(error.code());
  }
  // Nothing is to be saved there, and an orderly end would need programs: our caller kills the group that QEMU is in.
  ::_exit(code);
}

int run_command(const std::vector<std::string>& arguments) {
  const auto command = arguments.size() > 1 ? arguments[1] : "";
  if (command == "prepare" && arguments.size() == 3) {
    print_result(STDOUT_FILENO, Json{{"appliance", prepare(arguments[2]).string()}});
    return 0;
  }
  if (command == "read" && arguments.size() == 6) read_disk(arguments, progress_lines(STDOUT_FILENO));
  throw Error(ErrorCode::usage,
              "usage: agentvm-guestfs prepare|read ...   (started by agentvm; see docs/architecture.md)");
}

}  // namespace
}  // namespace agentvm

int main(int argc, char** argv) {
  using namespace agentvm;
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);
  return run_program([&] { return run_command({argv, argv + argc}); });
}
