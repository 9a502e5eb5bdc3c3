#include "cli/manager/ops/wip_ops.hpp"

#include <cstdlib>

#include <fmt/format.h>

#include "cli/manager/ops/pull.hpp"
#include "cli/manager/ops/requests.hpp"
#include "cli/manager/ops/worktrees.hpp"
#include "sync/refs.hpp"
#include "sync/wip_apply.hpp"
#include "vmm/base/digest.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds git_limit{60'000};
constexpr milliseconds survey_limit{30'000};
/// A line to the client holds 1 MiB, and escaping makes text longer.
constexpr std::size_t patch_limit_bytes = 256u << 10, shown_limit_bytes = 400u << 10;

/// Where the snapshots are, and whose.
struct Place {
  fs::path project;
  std::optional<SandboxName> sandbox;  ///< absent: of every sandbox that kept something here
  std::optional<SandboxRecord> record;
};

Place find_place(Core& core, const Json& params) {
  const auto name = optional_text(params, "name");
  if (name) {
    const auto sandbox = SandboxName::parse(*name);
    if (auto record = core.store().find(sandbox)) return {record->project, sandbox, record};
    // Destroyed, most likely: what it left is in the repository around the caller.
    try {
      return {find_project(text_or_empty(params, "cwd")).root, sandbox, std::nullopt};
    } catch (const Error&) {
      return {core.store().get(sandbox).project, sandbox, std::nullopt};  // throws, naming the nearest sandbox
    }
  }
  const auto root = find_project(text_or_empty(params, "cwd")).root;
  const auto mine = core.store().meant_by_project(root);
  if (mine.size() == 1) return {root, mine.front().name, mine.front()};
  return {root, std::nullopt, std::nullopt};
}

/// The sandbox that is meant where one must be: the named one, the project's, or the only one that kept something.
SandboxName one_sandbox(const Place& place, const sync::HostGit& git, Deadline deadline) {
  if (place.sandbox) return *place.sandbox;
  std::optional<std::string> only;
  for (const auto& entry : sync::list_wip(git, std::nullopt, deadline)) {
    if (only && *only != entry.sandbox)
      throw Error(ErrorCode::usage, "several sandboxes keep uncommitted work here; name one", "agentvm wip list");
    only = entry.sandbox;
  }
  if (!only) throw Error(ErrorCode::not_found, "no uncommitted work is kept here", "agentvm wip list");
  return SandboxName::parse(*only);
}

Json to_json(const sync::WipEntry& entry) {
  return {{"sandbox", clean_guest_text(entry.sandbox)},
          {"name", entry.name},
          {"ref", entry.ref},
          {"time", format_time(entry.time)},
          {"kind", std::string(sync::to_string(entry.kind))},
          {"branch", clean_guest_text(entry.branch)},
          {"worktree", entry.label},
          {"base", entry.base},
          {"commit", entry.commit},
          {"files_changed", entry.files_changed}};
}

struct Chosen {
  Place place;
  sync::WipEntry entry;
};
Chosen choose(Core& core, const Json& params, Deadline deadline) {
  auto place = find_place(core, params);
  const sync::HostGit git(place.project);
  const auto sandbox = one_sandbox(place, git, deadline);
  auto entry = sync::find_wip(git, sandbox.str(), optional_text(params, "wip"), deadline);
  return {std::move(place), std::move(entry)};
}

sync::GatePolicy gate_of(Core& core, CallContext& call, const Place& place, const Json& params) {
  const auto record = place.record
                          ? *place.record
                          : SandboxRecord{.id = "", .name = SandboxName::derive("gone"), .project = place.project};
  const auto settings = sync_settings(core, record, value_or<std::map<std::string, std::string>>(params, "env", {}));
  for (const auto& warning : settings.warnings) call.warning(warning);
  return settings.gate;
}

}  // namespace

Json list_wip(Core& core, const Json& params) {
  const auto deadline = Deadline::after(git_limit);
  const auto place = find_place(core, params);
  const sync::HostGit git(place.project);
  auto entries = sync::list_wip(git, place.sandbox ? std::optional(place.sandbox->str()) : std::nullopt, deadline);
  if (entries.empty() && place.sandbox && !place.record) core.store().get(*place.sandbox);  // throws: nothing of it
  sync::count_files(git, entries, deadline);
  auto list = Json::array();
  for (const auto& entry : entries) list.push_back(to_json(entry));
  return {{"schema", "agentvm.wip/1"},
          {"name", place.sandbox ? Json(place.sandbox->str()) : Json(nullptr)},
          {"project", place.project.string()},
          {"wip", list}};
}

Json show_wip(Core& core, const Json& params) {
  const auto deadline = Deadline::after(git_limit);
  const auto chosen = choose(core, params, deadline);
  const sync::HostGit git(chosen.place.project);
  const auto text = sync::show_wip(git, chosen.entry, patch_limit_bytes, deadline);
  std::vector<sync::WipEntry> one{chosen.entry};
  sync::count_files(git, one, deadline);
  auto result = to_json(one.front());
  result["schema"] = "agentvm.wip-show/1";
  result["stat"] = clean_guest_text(text.stat, Newlines::keep, shown_limit_bytes / 4);
  result["patch"] = clean_guest_text(text.patch, Newlines::keep, shown_limit_bytes);
  result["cut"] = text.cut;
  return result;
}

Json apply_wip(Core& core, CallContext& call, const Json& params) {
  const auto deadline = Deadline::after(git_limit * 5);
  const auto chosen = choose(core, params, deadline);
  const auto subject = chosen.place.project.string() + "\n" + chosen.entry.sandbox;
  sync::ApplyRequest request{.repository = chosen.place.project,
                             .entry = chosen.entry,
                             .scratch = core.paths().state / "wip" / sha256_hex(subject).substr(0, 16),
                             .gate = gate_of(core, call, chosen.place, params),
                             .accept = value_or<bool>(params, "accept", false)};
  report(call.progress_function(), "wip", "applying " + chosen.entry.name);
  const auto outcome = sync::apply_wip(request, deadline);
  auto files = Json::array(), conflicts = Json::array();
  for (const auto& file : outcome.files) files.push_back(clean_guest_text(file));
  for (const auto& file : outcome.conflicts) conflicts.push_back(clean_guest_text(file));
  auto result = to_json(chosen.entry);
  result["schema"] = "agentvm.wip-apply/1";
  result["result"] = std::string(sync::to_string(outcome.result));
  result["files"] = files;
  result["files_changed"] = outcome.files_changed;
  result["gated"] = sync::gated_json(outcome.gated);
  result["gated_count"] = outcome.gated_count;
  result["conflicts"] = conflicts;
  result["reason"] = outcome.reason;
  result["commands"] = outcome.commands;
  return result;
}

Json drop_wip(Core& core, const Json& params) {
  const auto deadline = Deadline::after(git_limit);
  const auto place = find_place(core, params);
  const sync::HostGit git(place.project);
  const auto sandbox = one_sandbox(place, git, deadline);
  std::vector<sync::WipEntry> doomed;
  if (value_or<bool>(params, "all", false)) {
    doomed = sync::list_wip(git, sandbox.str(), deadline);
  } else {
    const auto wanted = optional_text(params, "wip");
    if (!wanted) throw Error(ErrorCode::usage, "drop needs the name of a snapshot, or --all", "agentvm wip list");
    doomed.push_back(sync::find_wip(git, sandbox.str(), wanted, deadline));
  }
  sync::drop_wip(sync::open_host_repository(place.project, deadline), git, doomed, deadline);
  auto dropped = Json::array();
  for (const auto& entry : doomed) dropped.push_back(to_json(entry));
  return {{"schema", "agentvm.wip-drop/1"}, {"name", sandbox.str()}, {"dropped", dropped}};
}

namespace {

/// Commits that came from the sandbox and are on none of the user's branches.
std::uint64_t commits_kept_aside(const SandboxRecord& record, Deadline deadline) {
  const sync::HostGit git(record.project);
  const auto mirror = sync::mirror_ref(record.name.str(), "");
  const auto count = git.try_line({"rev-list", "--count", "--exclude=" + mirror + "wip/*", "--glob=" + mirror + "*",
                                   "--not", "--branches", "--remotes"},
                                  deadline);
  return count ? std::strtoull(count->c_str(), nullptr, 10) : 0;
}

}  // namespace

std::size_t count_kept_wip(const SandboxRecord& record) {
  try {
    return sync::list_wip(sync::HostGit(record.project), record.name.str(), Deadline::after(survey_limit)).size();
  } catch (const Error&) {
    return 0;
  }
}

Json list_losses(Core& core, const Json& params) {
  const auto record = core.resolve(params);
  const auto live = record.state == SandboxState::running ? core.live(record.name) : nullptr;
  Json result{{"schema", "agentvm.losses/1"}, {"name", record.name.str()}, {"state", to_string(record.state)},
              {"reason", record.reason},      {"unsaved", record.unsaved}, {"asked", false},
              {"worktrees", Json::array()},   {"kept_commits", 0},         {"kept_wip", 0}};
  if (live) {
    try {
      for (const auto& worktree : survey(record, *live, sync::Survey::with_changes, Deadline::after(survey_limit)))
        result["worktrees"].push_back({{"branch", clean_guest_text(worktree.branch)},
                                       {"path", clean_guest_text(worktree.path)},
                                       {"pending_commits", worktree.pending},
                                       {"uncommitted_files", worktree.changed}});
      result["asked"] = true;
    } catch (const Error& error) {
      result["problem"] = error.what();
    }
  }
  result["kept_wip"] = count_kept_wip(record);
  try {
    result["kept_commits"] = commits_kept_aside(record, Deadline::after(survey_limit));
  } catch (const Error& error) {
    result["problem"] = error.what();  // the project is gone: there is nothing to say of it
  }
  return result;
}

}  // namespace agentvm::manager
