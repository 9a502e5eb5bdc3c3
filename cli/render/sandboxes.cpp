#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/render/render.hpp"

namespace agentvm::cli {
namespace {

std::string state_text(const Json& status, const Style& style) {
  const auto state = text_at(status, "state");
  const auto reason = text_at(status, "reason", "");
  return style.paint(state_tone(state), state) + (reason.empty() ? "" : " (" + reason + ")");
}

std::string sync_text(const Json& sync) {
  const auto pending = number_at(sync, "pending_commits");
  auto text = text_at(sync, "mode", "manual");
  if (const auto last = text_at(sync, "last_time", ""); !last.empty())
    text += fmt::format(", last {} at {}", text_at(sync, "last_result"), last);
  if (pending > 0) text += fmt::format(", {} not yet on the host", counted(pending, "commit"));
  const auto state = text_at(sync, "state", "");
  if (state == "syncing") text += ", syncing now";
  if (const auto error = text_at(sync, "last_error", ""); !error.empty())
    text += fmt::format(", failed{}: {}",
                        state == "backing-off" ? " (tried again at " + text_at(sync, "next_time") + ")" : "", error);
  return text;
}

/// The names that a guest's connections wait for, the oldest first: "a.test, b.test:22 and 3 more"; empty without any.
std::string waiting_text(const Json& waiting) {
  constexpr std::size_t shown = 2;
  std::vector<std::string> names;
  for (std::size_t i = 0; i < std::min(shown, waiting.size()); ++i) names.push_back(text_at(waiting[i], "rule"));
  auto text = fmt::format("{}", fmt::join(names, ", "));
  if (waiting.size() > shown) text += fmt::format(" and {} more", waiting.size() - shown);
  return text;
}

/// The mode, and what there is to know about it: what nat exposes, how much was denied.
std::string network_text(const Json& status) {
  auto text = text_at(status, "network");
  const auto& egress = object_at(status, "egress");
  if (text == "nat") text += ": the guest reaches " + text_at(egress, "exposes");
  if (const auto denied = number_at(egress, "denied"); denied > 0)
    text += fmt::format(", {} denied (agentvm egress log --denied)", counted(denied, "connection"));
  if (const auto names = waiting_text(list_at(egress, "waiting")); !names.empty())
    text += fmt::format(", waits for you: {} (agentvm egress allow {} HOST)", names, text_at(status, "name"));
  return text;
}

/// "Claude Code 2.1.332, working"; empty without an agent.
std::string agent_text(const Json& status) {
  const auto& agent = object_at(status, "agent");
  const auto name = text_at(agent, "name", "");
  if (name.empty()) return "";
  auto text = text_at(agent, "title", name);
  if (const auto version = text_at(agent, "version", ""); !version.empty()) text += " " + version;
  const auto state = text_at(agent, "state", "");
  if (state == "ended") return text + fmt::format(", ended with status {}", number_at(agent, "exit_code"));
  if (state.empty()) return text;
  text += state == "waiting" ? ", waiting for you" : ", " + state;
  const auto since = number_at(agent, "since_seconds");
  return since > 0 ? text + " (" + duration(since) + ")" : text;
}

/// Whether it is wanted, and what came of trying it.
std::string nested_text(const Json& status) {
  if (!true_at(status, "nested")) return "no";
  const auto& tried = object_at(status, "nested_l2");
  if (!tried.empty() && !true_at(tried, "ran")) return "yes, but it does not work: " + text_at(tried, "reason");
  const auto& machines = object_at(status, "nested_machines");
  if (machines.empty()) return "yes";
  auto text =
      fmt::format("yes, with {} and {} for all of them",
                  number_at(machines, "memory_bytes") > 0 ? size(number_at(machines, "memory_bytes")) : "any memory",
                  number_at(machines, "vcpus") > 0 ? counted(number_at(machines, "vcpus"), "CPU") : "any CPU");
  if (const auto running = number_at(machines, "running"); running > 0) text += fmt::format("; {} running", running);
  if (const auto ended = number_at(machines, "ended_for_memory"); ended > 0)
    text += fmt::format("; {} ended for memory", ended);
  return text;
}

/// "waiting 3m", "ended (1) 3m"; empty when that is not known.
std::string session_text(const Json& session) {
  auto text = text_at(session, "state", "");
  if (text.empty()) return "";
  if (text == "ended") text += fmt::format(" ({})", number_at(session, "exit_code"));
  return text + " " + duration(number_at(session, "since_seconds"));
}

/// "claude waiting 3m": who, what it does, since when; then the work trees where a human is wanted.
Table::Cell agent_cell(const Json& agent) {
  auto text = text_at(agent, "name", "");
  if (text.empty()) return {"-"};
  const auto state = text_at(agent, "state", "");
  auto tone = state == "waiting" || state == "gone" ? Tone::warning
              : state == "ended"                    ? Tone::strong
              : state == "working"                  ? Tone::good
                                                    : Tone::plain;
  if (!state.empty()) text += " " + session_text(agent);
  for (const auto& worktree : list_at(agent, "worktrees")) {
    const auto there = text_at(worktree, "state", "");
    if (there != "waiting" && there != "ended") continue;
    text += fmt::format(", {} {}", text_at(worktree, "branch"), session_text(worktree));
    tone = Tone::warning;
  }
  return {text, tone};
}

/// Of the agent in a work tree.
std::string worktree_agent_text(const Json& status, const std::string& branch) {
  for (const auto& worktree : list_at(object_at(status, "agent"), "worktrees"))
    if (text_at(worktree, "branch") == branch) return ", agent " + session_text(worktree);
  return "";
}

/// "API_KEY for api.example.org: ok, last used 2026-01-31T08:09:10Z".
std::string secret_text(const Json& secret) {
  std::string hosts;
  for (const auto& host : list_at(secret, "hosts"))
    if (host.is_string()) hosts += (hosts.empty() ? "" : ", ") + clean(host.get<std::string>());
  const auto state = text_at(secret, "state");
  auto text =
      fmt::format("{} for {}: {}", text_at(secret, "name"), hosts, state == "not-asked" ? "not asked for yet" : state);
  if (const auto problem = text_at(secret, "problem", ""); !problem.empty()) text += ", " + problem;
  if (const auto last = text_at(secret, "last_use", ""); !last.empty()) text += ", last used " + last;
  return text;
}

/// "api.example.org 100 requests/hour: 12 taken".
std::string cap_text(const Json& cap) {
  const auto seconds = number_at(cap, "seconds", 0);
  return fmt::format("{}: {} taken{}", text_at(cap, "cap"), number_at(cap, "used", 0),
                     seconds > 0 ? ", nothing more for " + duration(seconds) : "");
}

/// What a machine that runs may take of its host.
std::string limits_text(const Json& limits) {
  if (!limits.is_object() || !limits.contains("nice") || limits["nice"].is_null()) return "";
  auto text = fmt::format("nice {}", number_at(limits, "nice"));
  if (number_at(limits, "disk_reserve_bytes") > 0)
    text += fmt::format(", {} of the host's disk kept free", size(number_at(limits, "disk_reserve_bytes")));
  if (const auto scope = text_at(limits, "scope", ""); !scope.empty()) return text + ", " + scope;
  return text + ", no systemd scope: " + text_at(limits, "scope_reason");
}

}  // namespace

std::string render_status(const Json& status, const Style& style, bool verbose) {
  std::vector<std::pair<std::string, std::string>> rows;
  const auto add = [&](const char* label, const std::string& value) {
    if (value != "-" && !value.empty()) rows.emplace_back(label, value);
  };
  add("Sandbox", style.paint(Tone::strong, text_at(status, "name")));
  add("State", state_text(status, style));
  add("Message", text_at(status, "message"));
  if (const auto frozen = text_at(status, "frozen", ""); !frozen.empty())
    add("Frozen", style.paint(Tone::bad, "until you run: agentvm resume " + text_at(status, "name")));
  add("Project", text_at(status, "project"));
  add("Branch", text_at(status, "branch"));
  if (const auto saved = number_at(status, "saved_bytes", 0); saved > 0)
    add("Saved", size(saved) + " of memory, on this host's disk");
  if (number_at(status, "uptime_seconds") > 0) add("Uptime", duration(number_at(status, "uptime_seconds")));
  const auto backend = text_at(status, "backend");
  add("Backend", backend == "-" ? backend : fmt::format("{}, {}", backend, text_at(status, "accelerator")));
  add("Memory", size(number_at(status, "memory_bytes", -1)));
  add("vCPUs", text_at(status, "vcpus"));
  add("Disk", size(number_at(status, "disk_bytes", -1)));
  if (verbose && status.is_object() && status.contains("warm"))
    add("Start", true_at(status, "warm")                      ? "warm, from a template"
                 : text_at(status, "warm_reason", "").empty() ? "-"
                                                              : "cold: " + text_at(status, "warm_reason"));
  if (status.is_object() && status.contains("nested")) add("Nested", nested_text(status));
  if (const auto& agent = object_at(status, "guest_agent"); !agent.empty() && !true_at(agent, "answers"))
    add("Guest agent", "no answer: " + text_at(agent, "reason"));
  add("Limits", limits_text(object_at(status, "limits")));
  add("Network", network_text(status));
  add("Agent", agent_text(status));
  add("Workspace", text_at(status, "workspace_mode"));
  const auto& ssh = object_at(status, "ssh");
  if (number_at(ssh, "port") > 0)
    add("SSH", fmt::format("{}@{} port {}", text_at(ssh, "user"), text_at(ssh, "host"), number_at(ssh, "port")));
  for (const auto& port : list_at(status, "ports"))
    add("Port", fmt::format("{}  {}{}", text_at(port, "url", std::to_string(number_at(port, "port"))),
                            text_at(port, "process"), true_at(port, "primary") ? "  (primary)" : ""));
  if (const auto& sync = object_at(status, "sync"); !sync.empty()) add("Sync", sync_text(sync));
  for (const auto& worktree : list_at(status, "worktrees"))
    add("Worktree", fmt::format("{} at {}{}{}", text_at(worktree, "branch"), text_at(worktree, "path"),
                                worktree_agent_text(status, text_at(worktree, "branch")),
                                number_at(worktree, "pending_commits") > 0
                                    ? ", " + counted(number_at(worktree, "pending_commits"), "commit") + " pending"
                                    : ""));
  for (const auto& secret : list_at(object_at(status, "egress"), "secrets")) add("Secret", secret_text(secret));
  for (const auto& cap : list_at(object_at(status, "egress"), "caps")) add("Cap", cap_text(cap));
  for (const auto& decoy : list_at(object_at(status, "egress"), "decoys"))
    add("Decoy", fmt::format("{} in {}", text_at(decoy, "name"), text_at(decoy, "file")));
  if (verbose && status.is_object()) {
    static const std::set<std::string> shown = {
        "schema",      "name",         "state",     "reason",          "project", "uptime_seconds", "backend",
        "accelerator", "memory_bytes", "vcpus",     "disk_bytes",      "nested",  "network",        "workspace_mode",
        "ports",       "ssh",          "sync",      "worktrees",       "message", "branch",         "already_running",
        "timing",      "agent",        "nested_l2", "nested_machines", "limits",  "warm",           "warm_reason",
        "frozen"};
    for (const auto& [key, value] : status.items())
      if (!shown.contains(key) && !value.is_null() && !(value.is_structured() && value.empty()))
        rows.emplace_back(clean(key), text_at(status, key));
  }
  return labelled(rows, style);
}

std::string render_status_all(const Json& answer, const Style& style, bool verbose) {
  const auto& sandboxes = list_at(answer, "sandboxes");
  if (sandboxes.empty()) return "There is no sandbox yet: agentvm start\n";
  std::string result;
  for (const auto& status : sandboxes) result += (result.empty() ? "" : "\n") + render_status(status, style, verbose);
  return result;
}

std::string render_list(const Json& answer, const Style& style, unsigned width) {
  const auto& sandboxes = list_at(answer, "sandboxes");
  const auto& broken = list_at(answer, "broken");
  if (sandboxes.empty() && broken.empty()) return "";
  const auto any = [&](auto has) { return std::any_of(sandboxes.begin(), sandboxes.end(), has); };
  const bool agents = any([](const Json& sandbox) { return !object_at(sandbox, "agent").empty(); });
  const bool commits = any([](const Json& sandbox) { return number_at(sandbox, "pending_commits") > 0; });
  const bool asks = any([](const Json& sandbox) { return !list_at(sandbox, "egress_waiting").empty(); });
  std::vector<std::string> headings{"SANDBOX", "STATE"};
  if (agents) headings.emplace_back("AGENT");
  if (commits) headings.emplace_back("COMMITS");
  if (asks) headings.emplace_back("ASKS FOR");
  headings.insert(headings.end(), {"BACKEND", "UPTIME", "PROJECT"});
  const auto add = [&](std::vector<Table::Cell> row, const Table::Cell& agent, const std::string& pending,
                       const std::string& waiting, const std::vector<Table::Cell>& rest, Table& table) {
    if (agents) row.push_back(agent);
    if (commits) row.push_back({pending});
    if (asks) row.push_back({waiting.empty() ? "-" : waiting, waiting.empty() ? Tone::plain : Tone::warning});
    row.insert(row.end(), rest.begin(), rest.end());
    table.add(std::move(row));
  };
  Table table(std::move(headings));
  for (const auto& sandbox : sandboxes) {
    const auto state = text_at(sandbox, "state");
    const auto uptime = number_at(sandbox, "uptime_seconds");
    const auto pending = number_at(sandbox, "pending_commits");
    const bool frozen = !text_at(sandbox, "frozen", "").empty();
    const auto shown = !frozen ? state : state == "paused" ? "frozen" : state + ", frozen";
    add({{text_at(sandbox, "name")}, {shown, frozen ? Tone::bad : state_tone(state)}},
        agent_cell(object_at(sandbox, "agent")), pending > 0 ? std::to_string(pending) : "-",
        waiting_text(list_at(sandbox, "egress_waiting")),
        {{text_at(sandbox, "backend")}, {uptime > 0 ? duration(uptime) : "-"}, {text_at(sandbox, "project")}}, table);
  }
  for (const auto& record : broken)
    add({{text_at(record, "name")}, {"unreadable", Tone::bad}}, {"-"}, "-", "",
        {{"-"}, {"-"}, {text_at(record, "error")}}, table);
  return table.text(style, width);
}

namespace {

/// Where the port has its own number on the host, or why not; empty where that is not configured.
std::string same_port_text(const Json& port) {
  const auto problem = text_at(port, "same_port_problem", "");
  return problem.empty() ? text_at(port, "same_port_url", "") : "- (" + problem + ")";
}

}  // namespace

std::string render_ports(const Json& answer, const Style& style, unsigned width) {
  const auto& ports = list_at(answer, "ports");
  if (ports.empty()) return "";
  const bool worktrees =
      std::any_of(ports.begin(), ports.end(), [](const Json& port) { return !text_at(port, "worktree", "").empty(); });
  const bool same_ports =
      std::any_of(ports.begin(), ports.end(), [](const Json& port) { return !same_port_text(port).empty(); });
  std::vector<std::string> headings{"PORT", "PROCESS"};
  if (worktrees) headings.emplace_back("WORKTREE");
  headings.emplace_back("URL");
  if (same_ports) headings.emplace_back("SAME PORT");
  Table table(std::move(headings));
  for (const auto& port : ports) {
    std::vector<Table::Cell> row{{fmt::format("{}", number_at(port, "port"))}, {text_at(port, "process")}};
    if (worktrees) row.push_back({text_at(port, "worktree", "")});
    row.push_back({text_at(port, "url") + (true_at(port, "primary") ? "  (primary)" : "")});
    if (same_ports) row.push_back({same_port_text(port)});
    table.add(std::move(row));
  }
  return table.text(style, width);
}

std::string render_timing(const Json& timing, const Style& style) {
  if (!timing.is_array() || timing.empty()) return "";
  const auto seconds = [](const Json& row, const char* key) {
    const auto value = number_at(row, key, -1);
    return value < 0 ? std::string("-") : fmt::format("{:.2f}", static_cast<double>(value) / 1000);
  };
  Table table({"PHASE", "SECONDS", "MEDIAN HERE"});
  std::int64_t total = 0;
  for (const auto& row : timing) {
    total += number_at(row, "milliseconds");
    table.add({{text_at(row, "phase")}, {seconds(row, "milliseconds")}, {seconds(row, "median_milliseconds")}});
  }
  table.add({{"total"}, {fmt::format("{:.2f}", static_cast<double>(total) / 1000)}, {""}});
  return table.text(style);
}

}  // namespace agentvm::cli
