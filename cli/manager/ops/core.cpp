#include "cli/manager/ops/core.hpp"

#include <fmt/format.h>

#include "cli/manager/ops/freeze.hpp"
#include "cli/manager/ops/machine_limits.hpp"
#include "cli/manager/ops/notify.hpp"
#include "cli/manager/ops/requests.hpp"
#include "cli/manager/ops/rescue.hpp"
#include "cli/manager/ops/running.hpp"
#include "cli/manager/ops/sessions.hpp"
#include "cli/manager/ops/sync_op.hpp"
#include "cli/manager/ops/worktrees.hpp"
#include "vmm/base/log.hpp"
#include "vmm/libvirt/libvirt_hypervisor.hpp"

namespace agentvm::manager {

namespace {

constexpr milliseconds egress_stop_limit{2'000};

using OnNotice = std::function<void(const egress::Decision&)>;

egress::Options egress_options(egress::Journal& journal, OnNotice on_notice, OnNotice on_stray, OnNotice on_decoy) {
  using Event = egress::JournalEntry::Event;
  egress::Options options;
  options.on_open = [&journal](const egress::Decision& decision) { journal.write({Event::open, decision}); };
  options.on_ask = [&journal, on_notice = std::move(on_notice)](const egress::Decision& decision,
                                                                egress::Notice notice) {
    journal.write({Event::held, decision});
    if (notice == egress::Notice::due) on_notice(decision);
  };
  options.on_decoy = std::move(on_decoy);
  options.on_decision = [&journal, on_stray = std::move(on_stray)](const egress::Decision& decision) {
    if (decision.kind == egress::Decision::Kind::denied && decision.cause == egress::Cause::placeholder)
      on_stray(decision);
    journal.write({decision.announced ? Event::end : Event::whole, decision});
  };
  return options;
}

Core::OpenHypervisor libvirt_below(const Paths& paths) {
  return [root = paths.libvirt_root()](const std::string& uri, Deadline deadline) {
    LibvirtConfig config;
    if (!uri.empty()) config.uri = uri;
    config.root = root;
    config.platform = find_machine_platform();
    return open_libvirt(config, deadline);
  };
}

}  // namespace

Core::Core(Paths paths, OpenHypervisor open)
    : paths_(std::move(paths)),
      open_(open ? std::move(open) : libvirt_below(paths_)),
      store_(paths_.state),
      trust_(paths_.state),
      secrets_(store_),
      egress_(std::make_unique<egress::Egress>(egress_options(
          journal_, [this](const egress::Decision& decision) { notify_question(*this, decision); },
          [this](const egress::Decision& decision) {
            if (secrets_.may_tell(decision.sandbox)) notify_placeholder(*this, decision);
          },
          [this](const egress::Decision& decision) { freeze_for_decoy(*this, decision); }))) {
  front_ = std::make_unique<Front>(
      paths_, [this](const SandboxName& name) { return live(name); },
      [this](const std::string& sandbox) {
        std::vector<std::string> names;
        for (auto& question : egress_->questions(sandbox)) names.push_back(std::move(question.rule));
        return names;
      },
      janitor_);
  agents_ = std::make_unique<AgentWatch>(
      [this](const SandboxName& name, const std::string& session) {
        const auto record = store_.find(name);
        return record && session_branch(*record, session).has_value();
      },
      [this](const SandboxName& name, const std::string& session, const AgentWatch::Session& now) {
        notify_user(*this, name, session, now);
      });
  syncs_ = std::make_unique<SyncWatch>(sync_hooks(*this));
  try {
    store_.sweep();
  } catch (const Error& error) {
    // What a crash left behind is untidy; it must not keep sandboxes from working.
    log::warn("manager", "sweeping the state folder: {}", error.what());
  }
  wip_timer_ = std::make_unique<WipTimer>(timed_snapshots(*this));
  disk_guard_ = std::make_unique<DiskGuard>(disk_guard_work(*this));
  templates_ = std::make_unique<TemplateMaker>(*this);
}

Core::~Core() {
  shut_down();
}

std::shared_ptr<Hypervisor> Core::hypervisor(const std::string& uri, Deadline deadline) {
  const std::lock_guard opening(opening_);
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = hypervisors_.find(uri); found != hypervisors_.end()) return found->second;
  }
  auto opened = open_(uri, deadline);
  log::info("libvirt", "opened {}", opened->uri());
  watch_events(*this, *opened);
  const std::lock_guard lock(mutex_);
  // The configured name and the resolved one are the same driver.
  hypervisors_[opened->uri()] = opened;
  return hypervisors_[uri] = opened;
}

Core::Hold Core::hold(const SandboxName& name, Deadline deadline) {
  std::shared_ptr<std::timed_mutex> mutex;
  {
    const std::lock_guard lock(mutex_);
    auto& slot = holds_[name.str()];
    if (!slot) slot = std::make_shared<std::timed_mutex>();
    mutex = slot;
  }
  Hold hold(std::move(mutex));
  if (!hold.lock().try_lock_until(deadline.at()))
    throw Error(ErrorCode::timed_out, fmt::format("{}: another operation on it is still running", name.str()),
                "agentvm status " + name.str());
  return hold;
}

std::unique_ptr<Core::Hold> Core::try_hold(const SandboxName& name) {
  try {
    return std::make_unique<Hold>(hold(name, Deadline::after(milliseconds(0))));
  } catch (const Error&) {
    return nullptr;
  }
}

SandboxRecord Core::apply(const SandboxName& name, SandboxEvent event, const std::string& reason,
                          const std::string& message, const std::function<void(SandboxRecord&)>& also) {
  const auto record = store_.update(name, [&](SandboxRecord& r) {
    if (event == SandboxEvent::ready) check_not_frozen(r);
    // Who ended the machine while it started has said why.
    if (event == SandboxEvent::ready && !r.message.empty())
      throw Error(ErrorCode::host_lacks, r.message, "agentvm image prune");
    apply_event(r, event, reason, message, system_clock().unix_seconds());
    if (also) also(r);
  });
  log::info("sandbox", "{} is {} ({}) {}", name.str(), to_string(record.state), reason, message);
  front_->show(record);
  return record;
}

SandboxRecord Core::as_seen(SandboxRecord record) {
  const auto here = live(record.name);
  if (record.state != SandboxState::running || !here || !here->silent()) return record;
  record.state = next(record.state, SandboxEvent::pause, record.name.str());
  record.reason = "host";
  record.message = record.frozen.empty() ? host_paused_message : record.frozen;
  return record;
}

std::shared_ptr<LiveSandbox> Core::live(const SandboxName& name) {
  const std::lock_guard lock(mutex_);
  const auto found = live_.find(name.str());
  return found == live_.end() ? nullptr : found->second;
}

void Core::set_live(const SandboxName& name, std::shared_ptr<LiveSandbox> live) {
  {
    const std::lock_guard lock(mutex_);
    live_[name.str()] = std::move(live);
  }
  follow_guest(name);
}

void Core::follow_guest(const SandboxName& name) {
  const auto here = live(name);
  const auto control = here ? here->control() : nullptr;
  front_->watch(name, control);
  syncs_->watch(name, sync_watch_settings(*this, name), control);
  const auto record = store_.find(name);
  if (record && record->agent != no_agent) agents_->watch(name, control);
  if (record && record->nested) nested_.watch(name, control);
}

void Core::leave_guest(const SandboxName& name) {
  front_->unwatch(name);
  syncs_->unwatch(name);
  agents_->unwatch(name);
  nested_.unwatch(name);
}

void Core::drop_live(const SandboxName& name) {
  std::shared_ptr<LiveSandbox> gone;
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = live_.find(name.str()); found != live_.end()) {
      gone = std::move(found->second);
      live_.erase(found);
    }
  }
  leave_guest(name);
  egress_->set_secrets(name.str(), nullptr);
  secrets_.end(name);
  watch_.remove(name.str());
  serial_.remove(name.str());
  if (gone) gone->close();
}

bool Core::any_live() {
  return live_count() > 0;
}

std::size_t Core::live_count() {
  const std::lock_guard lock(mutex_);
  return live_.size();
}

ImageRequest Core::image_request(const std::string& image) const {
  ImageRequest request;
  request.images = paths_.images();
  request.cache = paths_.data / "cache";
  request.libexec = paths_.libexec;
  if (fs::path(image).is_absolute()) {
    request.recipe = image;
  } else if (!image.empty() && image != default_image) {
    throw Error(ErrorCode::not_found, fmt::format("there is no image '{}'", image), "agentvm image list");
  }
  return request;
}

SandboxRecord Core::resolve(const Json& params) {
  const auto name = optional_text(params, "name");
  return resolve_sandbox(store_, name ? std::optional(SandboxName::parse(*name)) : std::nullopt,
                         text_or_empty(params, "cwd"));
}

Config Core::user_config() const {
  ConfigInput input;
  input.user = read_config_file(paths_.config_file);
  return resolve_config(input);
}

Config Core::project_config(const fs::path& project, const std::map<std::string, std::string>& environment) {
  ConfigInput input;
  input.environment = environment;
  input.user = read_config_file(paths_.config_file);
  input.project = read_config_file(project / "agentvm.yaml");
  input.trust = trust_.lookup(project);
  return resolve_config(input);
}

void Core::shut_down() {
  if (templates_) templates_->stop();
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [uri, hypervisor] : hypervisors_) hypervisor->on_event({});  // the next manager hears of the rest
  }
  if (disk_guard_) disk_guard_->stop();
  syncs_->stop();
  agents_->stop();
  nested_.stop();
  front_->stop();
  {
    // A guest whose sshd hangs would keep a task of the janitor waiting for a minute.
    const std::lock_guard lock(mutex_);
    for (const auto& [name, live] : live_) live->end_dialling();
  }
  janitor_.stop();
  if (wip_timer_) wip_timer_->begin_stop();
  std::map<std::string, std::shared_ptr<LiveSandbox>> all;
  {
    const std::lock_guard lock(mutex_);
    all.swap(live_);
  }
  for (auto& [name, live] : all) {
    watch_.remove(name);
    serial_.remove(name);
    live->close();
  }
  // What it asks goes to the janitor; those who wait for an answer are let go now.
  egress_->stop(Deadline::after(egress_stop_limit));
  if (wip_timer_) wip_timer_->stop();  // its connection is closed: it does not wait for a guest any more
}

}  // namespace agentvm::manager
