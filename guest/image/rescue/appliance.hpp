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
  struct Disk {
    std::filesystem::path file;
    std::string format;     ///< of the file: never guessed
    bool read_only = true;  ///< what is written all the same (a journal's replay) goes into an overlay
  };
  std::vector<Disk> disks;        ///< /dev/sda, /dev/sdb, ...
  std::filesystem::path scratch;  ///< overlays, sockets
  bool emulated = true;
};

/// Not thread-safe. Errors are `operation_failed` with what libguestfs says: text that a guest may have made, cleaned.
class Appliance {
 public:
  explicit Appliance(const ApplianceSpec& spec);
  ~Appliance();
  /// Runs programs: QEMU, qemu-img. Nothing below does.
  void launch();
  /// The first disk's file system, read-only. Its journal is replayed into the overlay: the guest did not unmount it.
  void mount();
  // Paths are absolute.
  /// Writes `folder` as a tar archive to descriptor `output`. Throws `not_found` when it is no folder: a link there
  /// would lead into the appliance's own files.
  void send_folder(const std::string& folder, int output);
  /// Where `path` leads, links of the disk followed within it. Throws `not_found`.
  std::string resolve(const std::string& path);
  enum class Kind { file, folder, other };
  struct Found {
    Kind kind = Kind::other;
    bool executable = false;
  };
  /// Of a resolved path.
  Found look(const std::string& path);
  void send_file(const std::string& path, int output);
  /// Writes the entries of a folder, or of the one thing that `path` is, as `listing.hpp` says. `names` is an empty
  /// file in memory.
  void send_listing(const std::string& path, int names, int output);

  // What is more than an answer of the appliance holds comes through `memory`, a file in memory: behind the gates
  // libguestfs cannot make one.
  std::vector<std::string> list(const std::string& folder, int memory);
  /// All that is below a folder, relative to it.
  std::vector<std::string> find(const std::string& folder, int memory);
  /// Throws `operation_failed` where it is longer than `limit_bytes`.
  std::string read(const std::string& path, int memory, std::size_t limit_bytes);

  guestfs_h* handle() { return handle_.get(); }
  /// Throws `operation_failed` with what libguestfs said last.
  [[noreturn]] void fail(const std::string& what);

 private:
  void send_entries(const std::string& folder, const std::vector<char*>& names, int output);
  struct Close {
    void operator()(guestfs_h* handle) const;
  };
  std::unique_ptr<guestfs_h, Close> handle_;
};

}  // namespace agentvm::rescue
