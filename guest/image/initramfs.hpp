#pragma once
// The initramfs: modules and /init, as newc cpio archives written by ourselves, the same bytes for the same input.

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace agentvm {

/// Collects one newc archive in memory. Owner root, time 0, so that equal content gives equal bytes.
class CpioArchive {
 public:
  /// `path` is relative, without "./". Parents must have been added before (the kernel does not make them).
  void add_folder(std::string_view path, unsigned mode = 0755);
  void add_file(std::string_view path, unsigned mode, std::string_view content);
  void add_device(std::string_view path, unsigned mode, unsigned major, unsigned minor);
  /// The whole archive with its trailer, padded to 512 bytes. The object is empty afterwards.
  std::string finish();

 private:
  void header(std::string_view path, unsigned mode, std::size_t size, unsigned major, unsigned minor);
  std::string data_;
  unsigned inode_ = 0;
};

/// Names and bytes of /lib/agentvm/modules/NN-name.ko, listed one per line in /lib/agentvm/modules.list in load order.
/// Reads `tree`/lib/modules/VERSION.
std::string modules_archive(const std::filesystem::path& tree);

/// /init from `guest_program` with /dev/console and the mount points that it uses. The kernel unpacks concatenated
/// archives in turn, so an initramfs is modules_archive + init_archive; a new guest program needs no new modules.
/// Throws `host_lacks` when the program is absent and `operation_failed` when it is no static ELF program.
std::string init_archive(const std::filesystem::path& guest_program);

}  // namespace agentvm
