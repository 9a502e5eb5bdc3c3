#include "cli/manager/ops/notify.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include "cli/manager/ops/sessions.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/process.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds command_limit{30'000};

std::map<std::string, std::string> own_environment() {
  std::map<std::string, std::string> all;
  for (char** each = environ; each && *each; ++each) {
    const std::string_view entry(*each);
    if (const auto equals = entry.find('='); equals != entry.npos)
      all.emplace(entry.substr(0, equals), entry.substr(equals + 1));
  }
  return all;
}

void run_command(Core& core, const SandboxName& name, const std::string& session, const AgentWatch::Session& now) {
  const auto command = core.user_config().text("notify");
  const auto record = core.store().find(name);
  if (command.empty() || !record) return;
  ProcessSpec spec;
  spec.argv = {"/bin/sh", "-c", command};
  spec.cwd.assign(1, '/');
  auto env = own_environment();
  env["AGENTVM_SANDBOX"] = name.str();
  env["AGENTVM_PROJECT"] = record->project.string();
  env["AGENTVM_AGENT"] = record->agent;
  env["AGENTVM_EVENT"] = now.state;
  env["AGENTVM_SESSION"] = session;
  // Not the branch: a guest names those, and a command may hand the message on to another shell.
  const bool own = session == session_name(*record);
  const auto where = fmt::format("in '{}'{}", name.str(), own ? "" : ", session " + session);
  env["AGENTVM_MESSAGE"] = fmt::format("{} waits for you {}", record->agent, where);
  if (now.state == "ended") {
    env["AGENTVM_EXIT_CODE"] = std::to_string(now.code);
    env["AGENTVM_MESSAGE"] = fmt::format("{} ended with status {} {}", record->agent, now.code, where);
  }
  spec.env = std::move(env);
  const auto result = run(spec, Deadline::after(command_limit));
  if (!result.status.ok())
    log::warn("notify", "{}: the command of notify ended with {}: {}", name.str(), result.status.describe(),
              result.err.substr(0, 500));
}

}  // namespace

void notify_user(Core& core, const SandboxName& name, const std::string& session, const AgentWatch::Session& now) {
  core.janitor().post("notify " + name.str(), [&core, name, session, now] {
    try {
      run_command(core, name, session, now);
    } catch (const Error& error) {
      log::warn("notify", "{}: {}", name.str(), error.what());
    }
  });
}

}  // namespace agentvm::manager
