// agentvm-guestfs: reads from the disk of a guest that is gone, through a libguestfs appliance.
//
//   agentvm-guestfs prepare FOLDER                          builds the appliance there (SUPERMIN_* name the kernel)
//   agentvm-guestfs read APPLIANCE DISK SCRATCH kvm|tcg folder|any|list PATH
//                                                         what is at PATH of the disk, to descriptor 3; sockets go
//                                                         into XDG_RUNTIME_DIR
//
// folder: a tar archive of a folder that is no link. any: links are followed; the first byte says what comes, 'D' a tar
// archive of a folder, 'F' the bytes of a file, 'X' those of one that its owner may execute. list: see listing.hpp.
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
#include <sys/mman.h>
#include <unistd.h>

#include "guest/image/rescue/appliance.hpp"
#include "guest/image/rescue/walls.hpp"
#include "guest/image/wire.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/fd.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/process.hpp"

namespace agentvm {
namespace {

constexpr int data_fd = 3;
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

void send(rescue::Appliance& appliance, const std::string& what, const std::string& path, int names) {
  appliance.mount();
  if (what == "folder") return appliance.send_folder(path, data_fd);
  const auto real = appliance.resolve(path);
  if (what == "list") return appliance.send_listing(real, names, data_fd);
  using Kind = rescue::Appliance::Kind;
  const auto found = appliance.look(real);
  if (found.kind == Kind::other)
    throw Error(ErrorCode::not_found, fmt::format("{} is neither a file nor a folder", path));
  write_all(data_fd, found.kind == Kind::folder ? "D" : found.executable ? "X" : "F", Deadline::never());
  found.kind == Kind::folder ? appliance.send_folder(real, data_fd) : appliance.send_file(real, data_fd);
}

[[noreturn]] void read_disk(const std::vector<std::string>& arguments, const Progress& progress) {
  const char* sockets = std::getenv("XDG_RUNTIME_DIR");
  // Behind the gates no file can be made.
  const UniqueFd names(check_errno(::memfd_create("agentvm-names", MFD_CLOEXEC), "memfd_create"));
  rescue::enter_walls({arguments[4], sockets ? sockets : arguments[4]});
  report(progress, "rescue", "starting the rescue appliance");
  rescue::Appliance appliance(
      {.appliance = arguments[2], .disk = arguments[3], .scratch = arguments[4], .emulated = arguments[5] != "kvm"});
  appliance.launch();
  rescue::close_gates();
  int code = 0;
  try {
    report(progress, "rescue", "reading the disk");
    send(appliance, arguments[6], arguments[7], names.get());
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
  if (command == "read" && arguments.size() == 8) read_disk(arguments, progress_lines(STDOUT_FILENO));
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
