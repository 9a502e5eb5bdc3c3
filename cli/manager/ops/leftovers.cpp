#include "cli/manager/ops/leftovers.hpp"

#include <set>

#include <fmt/format.h>

#include "vmm/base/files.hpp"

namespace agentvm::manager {
namespace {

std::set<fs::path> socket_folders_in_use(Core& core) {
  std::set<fs::path> used;
  const auto listing = core.store().list();
  for (const auto& record : listing.records) used.insert(core.paths().sockets(record.name.str()));
  for (const auto& broken : listing.broken) used.insert(core.paths().sockets(broken.name));
  if (fs::is_directory(core.kept_disks()))
    for (const auto& entry : fs::directory_iterator(core.kept_disks()))
      used.insert(core.paths().sockets(entry.path().stem().string()));
  return used;
}

std::string described(const Leftovers& found) {
  std::string text;
  for (const auto& machine : found.machines) text += (text.empty() ? "" : ", ") + ("the machine " + machine.domain);
  for (const auto& folder : found.folders) text += (text.empty() ? "" : ", ") + folder.string();
  return text;
}

}  // namespace

Leftovers find_leftovers(Core& core) {
  Leftovers found{.machines = find_orphans(core)};
  const auto sockets = core.paths().sockets("").parent_path();
  if (fs::is_directory(sockets))
    for (const auto& entry : fs::directory_iterator(sockets)) found.folders.push_back(entry.path());
  // Only now: whoever makes one has a record before.
  const auto used = socket_folders_in_use(core);
  std::erase_if(found.folders, [&used](const fs::path& folder) { return used.contains(folder); });
  return found;
}

Check check_leftovers(Core& core, bool fix) {
  constexpr const char* id = "leftovers";
  const auto found = find_leftovers(core);
  const Json data{{"machines", found.machines.size()}, {"folders", found.folders.size()}, {"fixed", fix}};
  if (found.machines.empty() && found.folders.empty())
    return {id, CheckStatus::pass, "nothing is left of sandboxes that are gone", "", data};
  if (!fix)
    return {id, CheckStatus::warn, "left of sandboxes that are gone: " + described(found), "agentvm doctor --fix",
            data};
  for (const auto& machine : found.machines) stop_orphan(core, machine);
  for (const auto& folder : found.folders) remove_tree(folder);
  return {id, CheckStatus::pass, "removed what was left of sandboxes that are gone: " + described(found), "", data};
}

}  // namespace agentvm::manager
