#include "guest/image/rescue/appliance.hpp"

#include <cerrno>
#include <cstdlib>
#include <sstream>

#include <fmt/format.h>
#include <guestfs.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/image/listing.hpp"
#include "guest/image/rescue/answers.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/fd.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::rescue {
namespace {

constexpr int memory_mib = 512;
constexpr const char* disk_device = "/dev/sda";  // a guest's disk: the file system is on all of it
constexpr std::size_t names_at_once = 500;

/// libguestfs opens what it writes to by name.
std::string descriptor(int fd) {
  return fmt::format("/proc/self/fd/{}", fd);
}

/// Each ends with a zero byte.
std::vector<std::string> split_names(const std::string& text) {
  std::vector<std::string> names;
  for (std::size_t start = 0; start < text.size();) {
    const auto end = std::min(text.find('\0', start), text.size());
    if (end > start) names.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return names;
}

/// What libguestfs wrote there.
std::string taken(int memory, std::size_t limit_bytes, const std::string& path) {
  check_errno(static_cast<int>(::lseek(memory, 0, SEEK_SET)), "a file in memory");
  auto bytes = read_to_end(memory, limit_bytes, Deadline::never());
  if (!bytes) throw Error(ErrorCode::operation_failed, path + " is more than can be taken");
  return std::move(*bytes);
}

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
  for (const auto& disk : spec.disks)
    check(guestfs_add_drive_opts(g, disk.file.c_str(), GUESTFS_ADD_DRIVE_OPTS_READONLY, disk.read_only ? 1 : 0,
                                 GUESTFS_ADD_DRIVE_OPTS_FORMAT, disk.format.c_str(), -1),
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

void Appliance::mount() {
  if (guestfs_mount_options(handle_.get(), "ro,nodev,nosuid,noexec", disk_device, "/") != 0)
    fail("the disk's file system cannot be mounted");
}

void Appliance::send_folder(const std::string& folder, int output) {
  auto* g = handle_.get();
  const int is_folder = guestfs_is_dir_opts(g, folder.c_str(), GUESTFS_IS_DIR_OPTS_FOLLOWSYMLINKS, 0, -1);
  if (is_folder < 0) fail("looking for " + folder);
  if (is_folder == 0) throw Error(ErrorCode::not_found, fmt::format("{} is no folder on the disk", folder));
  if (guestfs_tar_out_opts(g, folder.c_str(), descriptor(output).c_str(), GUESTFS_TAR_OUT_OPTS_NUMERICOWNER, 1, -1) !=
      0)
    fail(fmt::format("reading {} from the disk", folder));
}

std::string Appliance::resolve(const std::string& path) {
  const std::unique_ptr<char, FreeText> real(guestfs_realpath(handle_.get(), path.c_str()));
  if (real) return real.get();
  if (guestfs_last_errno(handle_.get()) == ENOENT)
    throw Error(ErrorCode::not_found, fmt::format("there is no {} on the disk", path));
  fail("looking for " + path);
}

Appliance::Found Appliance::look(const std::string& path) {
  const std::unique_ptr<struct guestfs_statns, decltype(&guestfs_free_statns)> status(
      guestfs_lstatns(handle_.get(), path.c_str()), &guestfs_free_statns);
  if (!status) fail("looking at " + path);
  const auto mode = static_cast<mode_t>(status->st_mode);
  return {S_ISREG(mode) ? Kind::file : S_ISDIR(mode) ? Kind::folder : Kind::other, (mode & S_IXUSR) != 0};
}

void Appliance::send_file(const std::string& path, int output) {
  if (guestfs_download(handle_.get(), path.c_str(), descriptor(output).c_str()) != 0)
    fail(fmt::format("reading {} from the disk", path));
}

std::vector<std::string> Appliance::list(const std::string& folder, int memory) {
  if (guestfs_ls0(handle_.get(), folder.c_str(), descriptor(memory).c_str()) != 0) fail("listing " + folder);
  return split_names(taken(memory, listing_limit_bytes, folder));
}

std::vector<std::string> Appliance::find(const std::string& folder, int memory) {
  if (guestfs_find0(handle_.get(), folder.c_str(), descriptor(memory).c_str()) != 0) fail("listing " + folder);
  return split_names(taken(memory, listing_limit_bytes, folder));
}

std::string Appliance::read(const std::string& path, int memory, std::size_t limit_bytes) {
  const auto bytes = guestfs_filesize(handle_.get(), path.c_str());
  if (bytes < 0) fail("looking at " + path);
  if (static_cast<std::uint64_t>(bytes) > limit_bytes)
    throw Error(ErrorCode::operation_failed, fmt::format("{} has {} bytes", path, bytes));
  if (guestfs_download(handle_.get(), path.c_str(), descriptor(memory).c_str()) != 0) fail("reading " + path);
  return taken(memory, limit_bytes, path);
}

void Appliance::send_listing(const std::string& path, int names_fd, int output) {
  std::string folder = path;
  std::vector<std::string> names;
  if (look(path).kind == Kind::folder) {
    names = list(path, names_fd);
  } else {
    const auto slash = path.rfind('/');
    folder = slash == 0 ? "/" : path.substr(0, slash);
    names = {path.substr(slash + 1)};
  }
  for (std::size_t start = 0; start < names.size(); start += names_at_once) {
    std::vector<char*> words;
    for (std::size_t i = start; i < std::min(names.size(), start + names_at_once); ++i)
      words.push_back(names[i].data());
    words.push_back(nullptr);
    send_entries(folder, words, output);
  }
}

/// `names` ends with a null pointer.
void Appliance::send_entries(const std::string& folder, const std::vector<char*>& names, int output) {
  auto* g = handle_.get();
  const std::unique_ptr<struct guestfs_statns_list, decltype(&guestfs_free_statns_list)> found(
      guestfs_lstatnslist(g, folder.c_str(), names.data()), &guestfs_free_statns_list);
  if (!found || found->len != names.size() - 1) fail("looking at what is in " + folder);
  const TextList targets(guestfs_readlinklist(g, folder.c_str(), names.data()));
  if (!targets) fail("reading the links in " + folder);
  std::string bytes;
  for (std::size_t i = 0; i + 1 < names.size() && targets.get()[i]; ++i) {
    const auto& status = found->val[i];
    if (status.st_ino < 0) continue;  // it could not be looked at
    bytes += format_listed({.name = names[i],
                            .target = targets.get()[i],
                            .mode = static_cast<unsigned>(status.st_mode),
                            .uid = static_cast<std::uint64_t>(status.st_uid),
                            .gid = static_cast<std::uint64_t>(status.st_gid),
                            .size = static_cast<std::uint64_t>(status.st_size),
                            .modified = status.st_mtime_sec});
  }
  write_all(output, bytes, Deadline::never());
}

}  // namespace agentvm::rescue
