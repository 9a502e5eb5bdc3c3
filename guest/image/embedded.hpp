#pragma once
// Files of the source tree that are compiled into the program (see embed.cmake): the default recipe and the rootfs
// folder.

#include <span>
#include <string_view>

namespace agentvm {

struct EmbeddedFile {
  std::string_view path;  ///< in the guest, absolute
  unsigned mode;          ///< 0644, or 0755 for scripts (first two bytes "#!"), or 0440 below /etc/sudoers.d
  std::string_view content;
};

/// recipes/default.yaml.
std::string_view embedded_recipe();
/// Everything below rootfs/, in the order of their paths.
std::span<const EmbeddedFile> embedded_rootfs();

}  // namespace agentvm
