#pragma once
// Layers: what a recipe can be asked to bring besides, by name. Each is a folder of layers/ that is compiled in:
// packages, settings of units and groups, files. Like a recipe, a layer declares; it runs nothing on the host.

#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "guest/image/embedded.hpp"

namespace agentvm {

struct ImageLayer {
  std::string name, summary;
  std::vector<std::string> packages;                       ///< of every suite
  std::map<std::string, std::vector<std::string>> suites;  ///< of that suite besides
  std::vector<std::string> groups;                         ///< that the agent user joins, where the packages made them
  std::vector<std::string> idle;                           ///< units that nothing wants: they start when asked for
  std::vector<std::string> wanted;                         ///< units of `files` that start with the machine
  std::span<const EmbeddedFile> files;

  std::set<std::string> packages_for(const std::string& suite) const;
  /// What it does besides packages and files, in one fixed spelling.
  std::string settings() const;
};

/// By name. Any thread.
const std::vector<ImageLayer>& image_layers();
/// nullptr for a name that is none.
const ImageLayer* find_image_layer(std::string_view name);
/// Throws `usage`, naming the nearest.
const ImageLayer& image_layer(std::string_view name);

}  // namespace agentvm
