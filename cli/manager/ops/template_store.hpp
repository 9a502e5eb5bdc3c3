#pragma once
// Templates: machines that are up and nobody's, at rest. A folder <data>/templates/<key>/ with disk, devices and
// memory; it appears by one rename, when everything in it is on disk.
//
// Nothing stands on one: who goes on from it copies all of it. So it can be removed at any time, and who was copying
// then starts cold.

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/clock.hpp"
#include "vmm/base/json.hpp"
#include "vmm/hypervisor.hpp"

namespace agentvm::manager {

/// What a machine must have in common with the template that it goes on from.
struct TemplateShape {
  std::string image;  ///< digest
  std::string root;   ///< path of the image's root disk, which the template's disk names
  std::string guest;  ///< digest of kernel and initramfs, and so of the agent in the guest
  std::string layer;  ///< of the agent; may be empty
  std::uint64_t memory_bytes = 0;
  unsigned vcpus = 1;
  std::string accelerator;
  bool nested = true;
  std::string network;
  std::string emulator;    ///< QEMU and its firmware: paths, sizes and times
  std::string libvirt;     ///< its version
  std::string host;        ///< with KVM: its kernel and CPU, which the guest sees
  std::string definition;  ///< digest of the machine's definition, but for names, paths of its own and ports
  std::string version;     ///< ours
  unsigned uid = 0;        ///< whose

  Json to_json() const;
  /// Names the folder: 64 hexadecimal digits.
  std::string key() const;
};

struct MachineTemplate {
  std::string key;
  std::filesystem::path folder;
  Json shape;
  std::string nonce;         ///< as in the memory of all machines from it
  std::int64_t created = 0;  ///< seconds since 1970
  std::uint64_t size_bytes = 0;

  std::filesystem::path disk() const { return folder / "disk.qcow2"; }
  std::filesystem::path devices() const { return folder / "device-state"; }
  std::filesystem::path memory() const { return folder / "memory"; }
  /// {"key", "image", "accelerator", "memory_bytes", "vcpus", "size_bytes", "created"}
  Json to_json() const;
};

/// Functions on <data>/templates. Any thread, several processes: what is there is whole.
class TemplateStore {
 public:
  explicit TemplateStore(std::filesystem::path folder) : folder_(std::move(folder)) {}

  /// The template of this shape; else nothing, and `why_not` says so. One that is not as it was written is removed.
  std::optional<MachineTemplate> find(const TemplateShape& shape, std::string& why_not) const;
  /// Newest use first; those that cannot be read are left out.
  std::vector<MachineTemplate> list() const;
  void note_use(const MachineTemplate& found) const;
  /// Whether the one in its place is still this one, and not a newer: what was copied meanwhile then belongs together.
  bool is_still(const MachineTemplate& found) const;
  /// What it freed.
  std::uint64_t remove(const std::string& key) const;

  /// Removes what interrupted ones left. The caller holds `lock_file()`.
  void sweep() const;
  /// A new folder for one that is being made, swept before. The caller holds `lock_file()`.
  std::filesystem::path begin() const;
  std::filesystem::path lock_file() const { return folder_ / "lock"; }
  /// Gives a folder with disk, devices and memory its place.
  MachineTemplate publish(const std::filesystem::path& made, const TemplateShape& shape, const std::string& nonce,
                          std::int64_t now) const;
  /// Removes all but the `count` last used, and those that `keep` says no to. What it freed.
  std::uint64_t trim(std::size_t count, const std::function<bool(const MachineTemplate&)>& keep) const;

 private:
  std::optional<MachineTemplate> read(const std::filesystem::path& folder, std::string& why_not) const;
  const std::filesystem::path folder_;
};

}  // namespace agentvm::manager
