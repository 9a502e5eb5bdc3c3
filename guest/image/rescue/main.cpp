// agentvm-guestfs: reads from the disk of a guest that is gone, or from somebody else's, through a libguestfs
// appliance.
//
//   agentvm-guestfs prepare FOLDER                          builds the appliance there (SUPERMIN_* name the kernel)
//   agentvm-guestfs read APPLIANCE DISK SCRATCH kvm|tcg folder|any|list PATH
//                                                         what is at PATH of the disk, to descriptor 3; sockets go
//                                                         into XDG_RUNTIME_DIR
//   agentvm-guestfs import APPLIANCE SOURCE TARGET BASE SCRATCH kvm|tcg VERSION
//                                                         the system on the disk SOURCE into TARGET, a raw disk with an
//                                                         empty ext4; the modules of kernel VERSION from the disk BASE
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
#include <functional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest/image/foreign_disk.hpp"
#include "guest/image/rescue/appliance.hpp"
#include "guest/image/rescue/import.hpp"
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

/// An orderly end of the appliance would need programs: our caller kills the group that QEMU is in.
[[noreturn]] void end_after(const std::function<Json()>& work) {
  int code = 0;
  try {
    print_result(STDOUT_FILENO, work());
  } catch (const Error& error) {
    print_error(STDOUT_FILENO, error);
    code = exit_code(error.code());
  } catch (const std::exception& problem) {
    const Error error(ErrorCode::operation_failed, problem.what());
    print_error(STDOUT_FILENO, error);
    code = exit_code(error.code());
  }
  ::_exit(code);
}

[[noreturn]] void read_disk(const std::vector<std::string>& arguments, const Progress& progress) {
  const char* sockets = std::getenv("XDG_RUNTIME_DIR");
  // Behind the gates no file can be made.
  const UniqueFd names(check_errno(::memfd_create("agentvm-names", MFD_CLOEXEC), "memfd_create"));
  rescue::enter_walls({arguments[4], sockets ? sockets : arguments[4]}, rescue::overlay_limit_bytes);
  report(progress, "rescue", "starting the rescue appliance");
  rescue::Appliance appliance({.appliance = arguments[2],
                               .disks = {{arguments[3], "qcow2"}},
                               .scratch = arguments[4],
                               .emulated = arguments[5] != "kvm"});
  appliance.launch();
  rescue::close_gates();
  end_after([&] {
    report(progress, "rescue", "reading the disk");
    send(appliance, arguments[6], arguments[7], names.get());
    return Json::object();
  });
}

[[noreturn]] void import(const std::vector<std::string>& arguments, const Progress& progress) {
  const fs::path source = arguments[3], target = arguments[4], base = arguments[5], scratch = arguments[6];
  const char* sockets = std::getenv("XDG_RUNTIME_DIR");
  const UniqueFd memory(check_errno(::memfd_create("agentvm-import", MFD_CLOEXEC), "memfd_create"));
  rescue::enter_walls({scratch, target, sockets ? fs::path(sockets) : scratch}, fs::file_size(target));
  // Told by us before a program that knows formats opens it.
  const auto disk = check_foreign_disk(source);
  report(progress, "image-appliance", "starting the appliance", 10);
  rescue::Appliance appliance({.appliance = arguments[2],
                               .disks = {{source, to_string(disk.format)}, {target, "raw", false}, {base, "raw"}},
                               .scratch = scratch,
                               .emulated = arguments[7] != "kvm"});
  appliance.launch();
  rescue::close_gates();
  end_after([&] { return rescue::import_system(appliance, arguments[8], memory.get(), progress); });
}

int run_command(const std::vector<std::string>& arguments) {
  const auto command = arguments.size() > 1 ? arguments[1] : "";
  if (command == "prepare" && arguments.size() == 3) {
    print_result(STDOUT_FILENO, Json{{"appliance", prepare(arguments[2]).string()}});
    return 0;
  }
  if (command == "read" && arguments.size() == 8) read_disk(arguments, progress_lines(STDOUT_FILENO));
  if (command == "import" && arguments.size() == 9) import(arguments, progress_lines(STDOUT_FILENO));
  throw Error(ErrorCode::usage,
              "usage: agentvm-guestfs prepare|read|import ...   (started by agentvm; see docs/architecture.md)");
}

}  // namespace
}  // namespace agentvm

int main(int argc, char** argv) {
  using namespace agentvm;
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);
  return run_program([&] { return run_command({argv, argv + argc}); });
}
