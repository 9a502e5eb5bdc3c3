#include "guest/image/rescue/appliance.hpp"

#include <sstream>

#include <fmt/format.h>
#include <guestfs.h>

#include "vmm/base/error.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::rescue {
namespace {

constexpr int memory_mib = 512;
constexpr const char* disk_device = "/dev/sda";  // the only one that is added: the file system is on all of it

}  // namespace

std::vector<std::filesystem::path> libguestfs_folders() {
  const std::unique_ptr<guestfs_h, decltype(&guestfs_close)> handle(guestfs_create_flags(GUESTFS_CREATE_NO_ENVIRONMENT),
                                                                    &guestfs_close);
  std::vector<std::filesystem::path> folders;
  const char* known = handle ? guestfs_get_path(handle.get()) : nullptr;
  std::istringstream paths(known ? known : "");
  for (std::string path; std::getline(paths, path, ':');)
    if (!path.empty()) folders.emplace_back(path);
  return folders;
}

void Appliance::Close::operator()(guestfs_h* handle) const {
  guestfs_close(handle);
}

Appliance::Appliance(const ApplianceSpec& spec) : handle_(guestfs_create()) {
  if (!handle_) throw Error(ErrorCode::operation_failed, "libguestfs cannot be set up");
  auto* g = handle_.get();
  guestfs_set_error_handler(g, nullptr, nullptr);  // told by exceptions, not on standard error
  const auto check = [this](int result, const char* what) {
    if (result != 0) fail(what);
  };
  check(guestfs_set_backend(g, "direct"), "choosing its backend");
  if (spec.emulated) check(guestfs_set_backend_setting(g, "force_tcg", "1"), "choosing emulation");
  check(guestfs_set_path(g, spec.appliance.c_str()), "choosing the appliance");
  check(guestfs_set_tmpdir(g, spec.scratch.c_str()), "choosing its folder");
  check(guestfs_set_cachedir(g, spec.scratch.c_str()), "choosing its folder");
  check(guestfs_set_memsize(g, memory_mib), "setting its memory");
  check(guestfs_set_smp(g, 1), "setting its processors");
  check(guestfs_set_network(g, 0), "taking its network");
  check(guestfs_set_autosync(g, 0), "setting it up");
  check(guestfs_add_drive_opts(g, spec.disk.c_str(), GUESTFS_ADD_DRIVE_OPTS_READONLY, 1, GUESTFS_ADD_DRIVE_OPTS_FORMAT,
                               "qcow2", -1),
        "adding the disk");
}

Appliance::~Appliance() = default;

void Appliance::fail(const std::string& what) {
  const char* said = guestfs_last_error(handle_.get());
  throw Error(ErrorCode::operation_failed,
              fmt::format("{}: {}", what, clean_guest_text(said ? said : "no reason given", Newlines::escape, 500)));
}

void Appliance::launch() {
  if (guestfs_launch(handle_.get()) != 0) fail("the rescue appliance did not start");
}

void Appliance::send_folder(const std::string& folder, int output) {
  auto* g = handle_.get();
  // The guest did not unmount it: its journal is replayed, into the overlay.
  if (guestfs_mount_options(g, "ro,nodev,nosuid,noexec", disk_device, "/") != 0)
    fail("the disk's file system cannot be mounted");
  const int is_folder = guestfs_is_dir_opts(g, folder.c_str(), GUESTFS_IS_DIR_OPTS_FOLLOWSYMLINKS, 0, -1);
  if (is_folder < 0) fail("looking for " + folder);
  if (is_folder == 0) throw Error(ErrorCode::not_found, fmt::format("{} is no folder on the disk", folder));
  if (guestfs_tar_out_opts(g, folder.c_str(), fmt::format("/proc/self/fd/{}", output).c_str(),
                           GUESTFS_TAR_OUT_OPTS_NUMERICOWNER, 1, -1) != 0)
    fail(fmt::format("reading {} from the disk", folder));
}

}  // namespace agentvm::rescue
