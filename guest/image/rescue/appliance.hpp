#pragma once
// The one place that knows libguestfs: a small machine of the host's own programs that has a disk, and answers.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

struct guestfs_h;

namespace agentvm::rescue {

/// Where libguestfs looks for its appliance; in the order in which it looks.
std::vector<std::filesystem::path> libguestfs_folders();

struct ApplianceSpec {
  std::filesystem::path appliance;  ///< kernel, initrd, root: never written
  std::filesystem::path disk;       ///< qcow2: never written, what the journal replays goes into an overlay
  std::filesystem::path scratch;    ///< overlays, sockets
  bool emulated = true;
};

/// Not thread-safe. Errors are `operation_failed` with what libguestfs says: text that a guest may have made, cleaned.
class Appliance {
 public:
  explicit Appliance(const ApplianceSpec& spec);
  ~Appliance();
  /// Runs programs: QEMU, qemu-img. Nothing below does.
  void launch();
  /// Writes `folder` of the disk's file system as a tar archive to descriptor `output`. Throws `not_found` when it is
  /// no folder: a link there would lead into the appliance's own files.
  void send_folder(const std::string& folder, int output);

 private:
  [[noreturn]] void fail(const std::string& what);
  struct Close {
    void operator()(guestfs_h* handle) const;
  };
  std::unique_ptr<guestfs_h, Close> handle_;
};

}  // namespace agentvm::rescue
