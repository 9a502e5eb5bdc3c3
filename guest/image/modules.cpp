#include "guest/image/modules.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <sstream>

#include <fcntl.h>
#include <fmt/format.h>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/process.hpp"

namespace agentvm {
namespace {

constexpr std::array<WantedModule, 10> boot_list = {{
    {"virtio_pci", ModuleNeed::required},
    {"virtio_blk", ModuleNeed::required},
    {"virtio_console", ModuleNeed::required},
    {"ext4", ModuleNeed::required},
    {"virtio_net", ModuleNeed::required},
    {"virtiofs", ModuleNeed::required},
    {"virtio_rng", ModuleNeed::optional},
    {"unix", ModuleNeed::optional},  // built in, and in no list of modules, since Linux 6.9 (CONFIG_UNIX is a bool)
    {"vmgenid", ModuleNeed::optional},
    {"qemu_fw_cfg", ModuleNeed::optional},
}};

/// "kernel/fs/fuse/virtio-fs.ko.xz" is "virtio_fs".
std::string module_name(std::string_view path) {
  auto name = std::string(path.substr(path.rfind('/') + 1));
  name.resize(std::min(name.find(".ko"), name.size()));
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

struct ModuleTable {
  std::map<std::string, std::string> path;                  // by name
  std::map<std::string, std::vector<std::string>> depends;  // by path, nearest first
};

ModuleTable parse_dep(std::string_view text) {
  ModuleTable table;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    const auto colon = line.find(':');
    if (colon == std::string::npos) continue;
    const auto path = line.substr(0, colon);
    table.path[module_name(path)] = path;
    std::istringstream rest(line.substr(colon + 1));
    for (std::string needed; rest >> needed;) table.depends[path].push_back(needed);
  }
  return table;
}

}  // namespace

std::span<const WantedModule> boot_modules() {
  return boot_list;
}

std::vector<std::string> module_load_order(std::string_view dep, std::string_view builtin,
                                           std::span<const WantedModule> wanted) {
  const auto table = parse_dep(dep);
  std::set<std::string> inside;
  std::istringstream lines{std::string(builtin)};
  for (std::string line; std::getline(lines, line);) inside.insert(module_name(line));

  std::vector<std::string> order;
  std::set<std::string> placed;
  const auto place = [&](const std::string& path) {
    if (placed.insert(path).second) order.push_back(path);
  };
  for (const auto& module : wanted) {
    const auto name = module_name(module.name);
    if (inside.contains(name)) continue;
    const auto found = table.path.find(name);
    if (found == table.path.end()) {
      if (module.need == ModuleNeed::optional) continue;
      throw Error(ErrorCode::operation_failed, fmt::format("the kernel has no module '{}', which boot needs", name),
                  "name another kernel package in the recipe, such as linux-image-amd64");
    }
    // depmod lists the whole closure, each module before those that it needs itself: load from the far end.
    if (const auto needs = table.depends.find(found->second); needs != table.depends.end())
      std::for_each(needs->second.rbegin(), needs->second.rend(), place);
    place(found->second);
  }
  return order;
}

std::string read_module(const fs::path& file) {
  constexpr std::size_t limit_bytes = 64u << 20;
  const auto extension = file.extension().string();
  const char* program = extension == ".xz"    ? "xz"
                        : extension == ".zst" ? "zstd"
                        : extension == ".gz"  ? "gzip"
                                              : nullptr;
  if (!program) return read_file(file, limit_bytes);
  const auto input = open_file(file, O_RDONLY | O_CLOEXEC);
  auto output = make_pipe();
  auto child = Process::spawn({.argv = {program, "-dc"}, .fds = {{0, input.get()}, {1, output.second.get()}}});
  output.second.reset();
  const auto deadline = Deadline::after(std::chrono::seconds(60));
  std::string data;
  std::array<char, 65536> buffer{};
  while (const auto count = read_some(output.first.get(), buffer.data(), buffer.size(), deadline)) {
    data.append(buffer.data(), count);
    if (data.size() > limit_bytes)
      throw Error(ErrorCode::operation_failed, fmt::format("{} is larger than 64 MiB", file.string()));
  }
  const auto status = child.wait(deadline);
  if (!status || !status->ok())
    throw Error(ErrorCode::operation_failed, fmt::format("{} could not be decompressed by {}", file.string(), program));
  return data;
}

std::string kernel_version(const fs::path& tree) {
  std::vector<std::string> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(tree / "lib" / "modules", ignored))
    found.push_back(entry.path().filename().string());
  if (found.size() != 1)
    throw Error(ErrorCode::operation_failed,
                fmt::format("the image's tree has {} kernels, one is needed", found.size()));
  return found[0];
}

}  // namespace agentvm
