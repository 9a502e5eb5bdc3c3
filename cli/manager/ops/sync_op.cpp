#include "cli/manager/ops/sync_op.hpp"

#include <fmt/format.h>

#include "cli/manager/ops/pull.hpp"
#include "cli/manager/ops/requests.hpp"
#include "cli/manager/ops/sessions.hpp"
#include "cli/manager/ops/stoppable.hpp"
#include "sync/pending.hpp"
#include "sync/sync.hpp"
#include "sync/wip.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/text.hpp"
#include "vmm/config.hpp"

namespace agentvm::manager {
namespace {

constexpr const char* schema = "agentvm.sync-next/1";
constexpr milliseconds sync_limit{20 * 60'000};
constexpr milliseconds hold_turn{20};
constexpr milliseconds token_limit{5'000};
constexpr milliseconds count_limit{15'000};
constexpr milliseconds mark_limit{5'000};
constexpr milliseconds tell_limit{2'000};
constexpr std::size_t named_limit = 5;

struct Asked {
  bool dry_run = false, accept = false;
  bool listed = false;  // to a user, by the client that asked
  std::optional<std::string> branch;
  SyncSettings settings;
};

/// What the guest's watch tells now: commits of before it are in the sync that follows. Empty: nothing.
guest::GuestRefs guest_refs(LiveSandbox& live) {
  const auto control = live.control();
  if (!control) return {};
  try {
    return control->refs("", milliseconds(0), {}, Deadline::after(token_limit));
  } catch (const Error& error) {
    log::debug("sync", "the guest's references: {}", error.what());
    return {};
  }
}

/// A few loose objects come over the agent's port, in a tenth of the time that git takes to start in a guest.
std::optional<sync::LooseSource> loose_source(LiveSandbox& live, const std::stop_token& stop) {
  const auto control = live.control();
  if (!control) return std::nullopt;
  return sync::LooseSource{
      [control, stop](Deadline deadline) -> std::optional<sync::LooseSource::References> {
        auto found = control->references(stop, deadline.sooner(Deadline::after(token_limit)));
        if (!found) return std::nullopt;
        return sync::LooseSource::References{std::move(found->head), std::move(found->tips)};
      },
      [control, stop](const std::vector<std::string>& ids, const std::stop_token& ended, Deadline deadline) {
        std::stop_source either;
        const std::stop_callback by_user(stop, [&either] { either.request_stop(); });
        const std::stop_callback by_sync(ended, [&either] { either.request_stop(); });
        return control->objects(ids, either.get_token(), deadline.sooner(Deadline::after(token_limit)));
      }};
}

/// The user's own work kept the branch where it was: once that is out of the way, it can follow.
bool waits_for_user(std::string_view result) {
  for (const auto held : {sync::Result::dirty, sync::Result::diverged, sync::Result::conflict})
    if (result == sync::to_string(held)) return true;
  return false;
}

Json run(Core& core, const SandboxRecord& record, LiveSandbox& live, Asked asked, const Progress& progress,
         const std::stop_token& stop) {
  const auto deadline = Deadline::after(sync_limit);
  sync::SyncRequest request{.repository = record.project,
                            .sandbox = record.name,
                            .libexec = core.paths().libexec,
                            .scratch = core.store().folder(record.name) / "sync"};
  request.limits = asked.settings.limits;
  request.gate = std::move(asked.settings.gate);
  request.accept = asked.accept;
  request.listed = asked.listed;
  request.dry_run = asked.dry_run;
  request.branch = std::move(asked.branch);
  std::shared_ptr<sync::HostMark> before = sync::HostMark::take(record.project, deadline);
  const auto session = live.session(Session::control, Deadline::after(let_in_limit));
  const auto refs = guest_refs(live);
  const auto& token = refs.token;
  if (refs.whole) request.guest_state = token;
  request.loose = loose_source(live, stop);
  const auto outcome = sync::sync_now(request, *stoppable(*session, stop), progress, deadline);
  auto result = sync::to_json(outcome);
  if (request.dry_run) return result;
  core.store().update(record.name, [&](SandboxRecord& r) {
    r.last_sync = SyncRecord{system_clock().unix_seconds(),
                             std::string(sync::to_string(outcome.result)),
                             outcome.branch,
                             outcome.old_tip,
                             outcome.new_tip,
                             token};
  });
  if (!before || !waits_for_user(sync::to_string(outcome.result))) {
    before.reset();
  } else {
    before->also_branch(outcome.branch);
    before->also_files(outcome.conflicts);
  }
  core.syncs().landed(record.name, token, result, std::move(before));
  return result;
}

/// One sync that nobody asked for; false when the sandbox is busy or not (yet, any more) running.
bool sync_by_itself(Core& core, const SandboxName& name, const std::stop_token& stop) {
  const auto hold = core.try_hold(name);
  if (!hold) return false;
  const auto record = core.store().find(name);
  const auto live = core.live(name);
  if (!record || record->state != SandboxState::running || !live) return false;
  Asked asked;
  asked.settings = sync_settings(core, *record);
  const auto result = run(core, *record, *live, std::move(asked), no_progress(), stop);
  log::info("sync", "{}: by itself: {}", name.str(), value_or<std::string>(result, "result", ""));
  return true;
}

std::optional<std::uint64_t> count_pending(Core& core, const SandboxName& name, guest::Control& control) {
  const auto record = core.store().find(name);
  if (!record || record->state != SandboxState::running) return std::nullopt;
  const auto deadline = Deadline::after(count_limit);
  const auto question = sync::pending_question(record->project, name, "/workspace", deadline);
  const auto answer = control.exec({.argv = question.argv, .user = "agent", .input = question.input}, deadline, 64);
  return answer.ok() ? sync::pending_answer(answer.out) : std::nullopt;
}

/// For the status line of its terminal sessions (guest/image/rootfs).
void tell_pending(const SandboxName& name, guest::Control& control, std::uint64_t number) {
  const auto answer = control.exec({.argv = {"sh", "-c", "mkdir -p /run/agentvm && echo \"$1\" >/run/agentvm/pending",
                                             "sh", std::to_string(number)}},
                                   Deadline::after(tell_limit), 256);
  if (!answer.ok()) log::debug("sync", "{}: its status line: {}", name.str(), clean_guest_text(answer.err));
}

/// A running one. Where it does not run, the error also names what its last end kept on the host.
SandboxName sandbox_to_sync(Core& core, const Json& params) {
  try {
    return running_sandbox(core, params).first.name;
  } catch (const Error& error) {
    if (error.code() != ErrorCode::wrong_state) throw;
    const auto record = core.resolve(params);
    std::vector<sync::WipEntry> kept;
    try {
      kept = sync::list_wip(sync::HostGit(record.project), record.name.str(), Deadline::after(count_limit));
    } catch (const Error&) {  // a project that is gone is not what was asked about
    }
    if (kept.empty()) throw;
    std::string refs;
    for (std::size_t i = 0; i < std::min(kept.size(), named_limit); ++i) refs += (i ? ", " : "") + kept[i].ref;
    const auto more = kept.size() > named_limit ? fmt::format(" and {} more", kept.size() - named_limit) : "";
    throw Error(error.code(), fmt::format("{}; what was uncommitted is kept as {}{}", error.message(), refs, more),
                error.hint());
  }
}

}  // namespace

Json sync_held(Core& core, CallContext& call, const Json& params) {
  const auto [record, live] = running_sandbox(core, params);
  Asked asked;
  asked.settings = sync_settings(core, record, value_or<std::map<std::string, std::string>>(params, "env", {}));
  for (const auto& warning : asked.settings.warnings) call.warning(warning);
  asked.dry_run = value_or<bool>(params, "dry_run", false);
  asked.accept = value_or<bool>(params, "accept", false);
  asked.listed = value_or<bool>(params, "listed", false);
  asked.branch = optional_text(params, "branch");
  return run(core, record, *live, std::move(asked), call.progress_function(), call.cancelled());
}

Json sync_sandbox(Core& core, CallContext& call, const Json& params) {
  const auto name = sandbox_to_sync(core, params);
  const auto deadline = Deadline::after(sync_limit);
  auto hold = core.try_hold(name);
  while (!hold && !deadline.expired()) {  // a sync that runs by itself may take its time; whoever waits may have enough
    call.check_cancelled();
    system_clock().sleep(hold_turn);
    hold = core.try_hold(name);
  }
  if (!hold)
    throw Error(ErrorCode::timed_out, fmt::format("{}: another operation on it is still running", name.str()),
                "agentvm status " + name.str());
  return sync_held(core, call, params);
}

void next_sync(Core& core, const std::shared_ptr<Responder>& call, const Json& params) {
  const auto name = running_sandbox(core, params).first.name;
  if (value_or<bool>(params, "peek", false))
    return call->respond({{"schema", schema}, {"name", name.str()}, {"sequence", core.syncs().sequence(name)}});
  struct Waiting {
    std::mutex mutex;  // guards the members below
    std::shared_ptr<void> handle;
    bool over = false;
    std::optional<std::stop_callback<std::function<void()>>> on_cancel;

    void leave() {
      std::shared_ptr<void> going;
      const std::lock_guard lock(mutex);
      over = true;
      going.swap(handle);
    }
  };
  const auto waiting = std::make_shared<Waiting>();
  auto handle = core.syncs().follow(name, require<std::uint64_t>(params, "after"), [call, waiting, name](Json news) {
    news["schema"] = schema;
    news["name"] = name.str();
    call->respond(std::move(news));
    waiting->leave();
  });
  {
    const std::lock_guard lock(waiting->mutex);
    if (waiting->over) return;
    waiting->handle = std::move(handle);
  }
  waiting->on_cancel.emplace(call->cancelled(), [&core, name, weak = std::weak_ptr(waiting), call] {
    call->fail(Error(ErrorCode::cancelled, "cancelled"));
    // This runs on the server's thread, and inside what leaving destroys.
    core.janitor().post("stop following " + name.str(), [weak] {
      if (const auto held = weak.lock()) held->leave();
    });
  });
}

SyncWatch::Hooks sync_hooks(Core& core) {
  return {[&core](const SandboxName& name, const std::stop_token& stop) { return sync_by_itself(core, name, stop); },
          [&core](const SandboxName& name, guest::Control& control) { return count_pending(core, name, control); },
          tell_pending};
}

SyncWatch::Settings sync_watch_settings(Core& core, const SandboxName& name) {
  SyncWatch::Settings settings;
  try {
    const auto record = core.store().get(name);
    settings.mode = sync::sync_mode_from(record.sync_mode);
    if (const auto& last = record.last_sync) {
      settings.settled = last->refs_token;
      if (waits_for_user(last->result))
        settings.held = sync::HostMark::take(record.project, Deadline::after(mark_limit));
      if (settings.held) settings.held->forget();  // whatever happened while nobody watched
    }
    settings.idle = std::chrono::seconds(core.project_config(record.project).count("sync.idle_seconds"));
  } catch (const Error& error) {
    log::warn("sync", "{}: {}", name.str(), error.what());
  }
  return settings;
}

}  // namespace agentvm::manager
