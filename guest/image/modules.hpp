#pragma once
// Kernel modules that boot needs, in the order in which they load.

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace agentvm {

enum class ModuleNeed { required, optional };
struct WantedModule {
  std::string_view name;  ///< `-` and `_` are the same
  ModuleNeed need;
};

/// What stands between the kernel's start and a mounted root with the agent's port, network and workspace.
std::span<const WantedModule> boot_modules();

/// Paths as in modules.dep (relative to /lib/modules/VERSION), dependencies first, each once. Modules named in
/// `builtin` need no file. Throws `operation_failed` naming a required module that the kernel has in neither form.
std::vector<std::string> module_load_order(std::string_view dep, std::string_view builtin,
                                           std::span<const WantedModule> wanted);

/// The module's ELF bytes: .xz, .zst and .gz are decompressed by the host's programs.
std::string read_module(const std::filesystem::path& file);

/// The one version below `tree`/lib/modules; throws when there is none or more than one.
std::string kernel_version(const std::filesystem::path& tree);

}  // namespace agentvm
