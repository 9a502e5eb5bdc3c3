#include "cli/manager/ops/helper_guest.hpp"

#include <set>

#include <fmt/format.h>

#include "cli/manager/ops/start.hpp"
#include "cli/manager/ops/teardown.hpp"
#include "sync/host_git.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds short_limit{60'000};

/// A sandbox needs a repository: one commit, nothing in it.
void make_repository(const fs::path& project) {
  ensure_private_dir(project);
  const sync::HostGit git(project, sync::HostGit::Config::none);
  const auto soon = Deadline::after(short_limit);
  git.output({"init", "-q"}, soon);
  git.output({"-c", "user.name=agentvm", "-c", "user.email=agentvm@localhost", "commit", "-q", "--allow-empty", "-m",
              "A guest for the manager's own work"},
             soon);
}

}  // namespace

HelperRelay::HelperRelay(CallContext& client, std::string stage, std::string what)
    : CallRelay(std::shared_ptr<CallContext>(std::shared_ptr<void>(), &client)),
      stage_(std::move(stage)),
      what_(std::move(what)) {}

void HelperRelay::progress(const ProgressEvent& event) {
  CallRelay::progress({stage_, fmt::format("{}: {}", what_, event.text), event.percent});
}

void HelperRelay::warning(std::string text) {
  log::info("helper", "{}: {}", what_, text);
}

HelperGuest::HelperGuest(Core& core, CallContext& call, const Spec& spec)
    : core_(core), name_(SandboxName::derive(spec.name).with_suffix(random_hex(2))) {
  try {
    const auto project = spec.folder / project_folder;
    make_repository(project);
    ClientSetting setting;
    setting.cwd = setting.path = project;
    setting.environment = spec.environment;
    setting.flags = spec.flags;
    setting.flags.insert({{"name", name_.str()},
                          {"image", std::string(default_image)},
                          {"layers", ""},
                          {"sync.mode", "manual"},
                          {"workspace.mode", "virtiofs"},
                          {"agent", "none"}});
    start_sandbox(core_, call, setting, {.lifetime = Lifetime::one_command});
  } catch (...) {
    end();
    throw;
  }
}

HelperGuest::~HelperGuest() {
  end();
}

std::shared_ptr<LiveSandbox> HelperGuest::live() const {
  auto live = core_.live(name_);
  if (!live || !live->control()) throw Error(ErrorCode::operation_failed, "the guest that was started for it is gone");
  return live;
}

/// There is nothing in it to be saved. The first error is the one that counts.
void HelperGuest::end() {
  try {
    if (!core_.store().find(name_)) return;
    const auto hold = core_.hold(name_, Deadline::after(short_limit));
    core_.apply(name_, SandboxEvent::destroy, "helper");
    tear_down(core_, name_, Shutdown::forced, milliseconds(0), Deadline::after(short_limit));
    erase(core_, name_, Deadline::after(short_limit));
  } catch (const std::exception& problem) {
    log::error("helper", "{}: {}", name_.str(), problem.what());
  }
}

void HelperGuest::sweep(Core& core, const fs::path& parent, const std::string& prefix) {
  std::set<fs::path> named;
  for (const auto& record : core.store().list().records) named.insert(record.project.parent_path());
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(parent, ignored))
    if (entry.path().filename().string().starts_with(prefix) && !named.contains(entry.path()))
      remove_tree(entry.path());
}

}  // namespace agentvm::manager
