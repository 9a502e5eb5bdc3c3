#pragma once
// Files of the source tree that are compiled into the program (see embed.cmake): the default recipe, the rootfs folder
// and the layers.

#include <span>
#include <string_view>

namespace agentvm {

struct EmbeddedFile {
  std::string_view path;  ///< in the guest, absolute
  unsigned mode;          ///< 0644, or 0755 for scripts (first two bytes "#!"), or 0440 below /etc/sudoers.d
  std::string_view content;
};

struct EmbeddedLayer {
  std::string_view name;        ///< of its folder
  std::string_view definition;  ///< layer.yaml
  std::span<const EmbeddedFile> files;
};

/// recipes/default.yaml.
std::string_view embedded_recipe();
/// Everything below rootfs/, in the order of their paths.
std::span<const EmbeddedFile> embedded_rootfs();
/// The folders of layers/, by name.
std::span<const EmbeddedLayer> embedded_layers();

}  // namespace agentvm
