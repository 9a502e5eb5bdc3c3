#pragma once
// Writes below one folder of the host, whatever happens to its tree meanwhile. Every path is resolved by openat2(2)
// beneath the folder's descriptor, through no link; what is there is replaced by rename, never opened and never
// written into.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "vmm/base/fd.hpp"

namespace agentvm::sync {

class TreeWriter {
 public:
  /// The one name that is ours in the folder while a file is being written: one writer at a time (flock on the folder).
  static constexpr const char* draft_name = ".agentvm-artifact.part";

  /// `folder` is borrowed: an open directory. Throws `host_lacks` where the kernel has no openat2.
  explicit TreeWriter(int folder);
  ~TreeWriter();

  struct Found {
    enum class Kind {
      nothing,
      file,
      link,
      blocked,  ///< a folder, something special, or something other than folders on the way
    } kind = Kind::nothing;
    std::uint64_t size = 0;
    std::int64_t mtime_ns = 0;
    bool executable = false;
    std::string target;  ///< of a link
  };
  Found look(const std::string& path);
  /// What `look` says is a file, to read it; empty when it is none any more.
  UniqueFd open(const std::string& path);

  /// Begins a file (mode 0666 or 0777 as the umask allows, no other bit) under `draft_name`.
  void begin(bool executable);
  void write(std::string_view bytes);
  void hole(std::uint64_t size);
  /// Makes the file `path`, which was nothing, a file or a link before. Why not, when something is in the way.
  std::optional<std::string> commit(const std::string& path, std::int64_t mtime_ns);
  void discard();
  /// Makes the link `path`, which was nothing or a link before.
  std::optional<std::string> link(const std::string& path, const std::string& target);

 private:
  enum class Missing { leave, make };
  UniqueFd parent(const std::string& path, Missing missing, int& problem);
  std::optional<std::string> place(const std::string& path);
  const int folder_;
  UniqueFd draft_;
  std::uint64_t size_ = 0;
  std::string parent_path_;  // of the folder that was used last
  UniqueFd parent_;
};

}  // namespace agentvm::sync
