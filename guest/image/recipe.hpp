#pragma once
// What an image is made of, as a parsed type. A recipe is a declaration: it names packages and settings, it runs
// nothing on the host.

#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/sizes.hpp"

namespace agentvm {

struct Recipe {
  std::string name;                   ///< shown in lists; same rule as a package's name
  std::string suite;                  ///< Debian suite: bookworm, trixie
  std::string kernel;                 ///< package that is, or depends on, the kernel image
  ByteSize disk;                      ///< virtual size of the root disk (sparse): 4 GiB to 1 TiB
  std::vector<std::string> packages;  ///< sorted, unique
  std::vector<std::string> mask;      ///< systemd units that never start; sorted, unique
  std::vector<std::string> layers;    ///< see `image_layers`; sorted, unique; their packages are among `packages`

  /// The same recipe in one fixed spelling: comments, order and layout of the file do not change an image's digest.
  std::string canonical() const;
};

/// `recipe` and the named layers, in its name, too ("default+containers"). Throws `usage` for a name that is none.
Recipe with_layers(Recipe recipe, const std::vector<std::string>& layers);

/// Throws `usage` with "file:line:column: reason": unknown keys (with the nearest known one), missing keys, names that
/// are no package, suite or unit.
Recipe parse_recipe(std::string_view text, const std::string& file);

/// The recipe that is compiled into the program.
std::string_view default_recipe_text();
const Recipe& default_recipe();

}  // namespace agentvm
