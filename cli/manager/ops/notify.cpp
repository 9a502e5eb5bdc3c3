#include "cli/manager/ops/notify.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <unistd.h>

#include "cli/manager/ops/sessions.hpp"
#include "proxy/egress/refusal.hpp"
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

/// `about`: what the command hears besides whose sandbox it is.
void run_command(Core& core, const SandboxRecord& record, std::map<std::string, std::string> about) {
  const auto command = core.user_config().text("notify");
  if (command.empty()) return;
  ProcessSpec spec;
  spec.argv = {"/bin/sh", "-c", command};
  spec.cwd.assign(1, '/');
  auto env = own_environment();
  env["AGENTVM_SANDBOX"] = record.name.str();
  env["AGENTVM_PROJECT"] = record.project.string();
  env["AGENTVM_AGENT"] = record.agent;
  for (auto& [name, value] : about) env[name] = std::move(value);
  spec.env = std::move(env);
  const auto result = run(spec, Deadline::after(command_limit));
  if (!result.status.ok())
    log::warn("notify", "{}: the command of notify ended with {}: {}", record.name.str(), result.status.describe(),
              result.err.substr(0, 500));
}

std::map<std::string, std::string> about_agent(const SandboxRecord& record, const std::string& session,
                                               const AgentWatch::Session& now) {
  // Not the branch: a guest names those, and a command may hand the message on to another shell.
  const bool own = session == session_name(record);
  const auto where = fmt::format("in '{}'{}", record.name.str(), own ? "" : ", session " + session);
  std::map<std::string, std::string> about{
      {"AGENTVM_EVENT", now.state},
      {"AGENTVM_SESSION", session},
      {"AGENTVM_MESSAGE", fmt::format("{} waits for you {}", record.agent, where)}};
  if (now.state == "ended") {
    about["AGENTVM_EXIT_CODE"] = std::to_string(now.code);
    about["AGENTVM_MESSAGE"] = fmt::format("{} ended with status {} {}", record.agent, now.code, where);
  }
  return about;
}

/// Of a question that is still open: what the user would allow is exact, and cannot be misread by a shell.
std::map<std::string, std::string> about_question(const SandboxRecord& record, const std::string& rule) {
  return {{"AGENTVM_EVENT", "asked"},
          {"AGENTVM_HOST", rule},
          {"AGENTVM_MESSAGE",
           fmt::format("'{0}' waits to reach {1} (agentvm egress allow {0} {1})", record.name.str(), rule)}};
}

}  // namespace

void notify_user(Core& core, const SandboxName& name, const std::string& session, const AgentWatch::Session& now) {
  core.janitor().post("notify " + name.str(), [&core, name, session, now] {
    try {
      if (const auto record = core.store().find(name)) run_command(core, *record, about_agent(*record, session, now));
    } catch (const Error& error) {
      log::warn("notify", "{}: {}", name.str(), error.what());
    }
  });
}

void notify_question(Core& core, const egress::Decision& question) {
  const auto rule = egress::rule_text({question.host, question.port});
  core.janitor().post("ask " + question.sandbox, [&core, sandbox = question.sandbox, rule] {
    // A command that takes half a minute must not let those that are over pile up behind it.
    const auto open = core.egress().questions(sandbox);
    if (std::none_of(open.begin(), open.end(), [&](const auto& each) { return each.rule == rule; })) return;
    try {
      const auto record = core.store().find(SandboxName::parse(sandbox));
      if (record) run_command(core, *record, about_question(*record, rule));
    } catch (const Error& error) {
      log::warn("notify", "{}: {}", sandbox, error.what());
    }
  });
}

void notify_placeholder(Core& core, const egress::Decision& decision) {
  core.janitor().post("placeholder " + decision.sandbox, [&core, sandbox = decision.sandbox] {
    try {
      const auto record = core.store().find(SandboxName::parse(sandbox));
      if (!record) return;
      // Not where it went: that a guest chose.
      run_command(
          core, *record,
          {{"AGENTVM_EVENT", "placeholder"},
           {"AGENTVM_MESSAGE",
            fmt::format("'{0}' sent the placeholder of a secret where it does not belong (agentvm egress log {0} "
                        "--denied)",
                        record->name.str())}});
    } catch (const Error& error) {
      log::warn("notify", "{}: {}", sandbox, error.what());
    }
  });
}

void notify_decoy(Core& core, const SandboxName& name) {
  core.janitor().post("decoy " + name.str(), [&core, name] {
    try {
      const auto record = core.store().find(name);
      if (!record) return;
      run_command(core, *record,
                  {{"AGENTVM_EVENT", "decoy"},
                   {"AGENTVM_MESSAGE",
                    fmt::format("'{0}' is frozen: it sent a decoy (agentvm status {0})", record->name.str())}});
    } catch (const Error& error) {
      log::warn("notify", "{}: {}", name.str(), error.what());
    }
  });
}

}  // namespace agentvm::manager
