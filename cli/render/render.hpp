#pragma once
// One function per result that people read. Pure: JSON in, text out.

#include "cli/render/table.hpp"

namespace agentvm::cli {

std::string render_status(const Json& status, const Style& style, bool verbose);
std::string render_status_all(const Json& answer, const Style& style, bool verbose);
std::string render_list(const Json& answer, const Style& style, unsigned width);
std::string render_ports(const Json& answer, const Style& style, unsigned width);
std::string render_egress_log(const Json& answer, const Style& style, unsigned width);
/// One entry of the journal, as one line.
std::string render_egress_event(const Json& entry, const Style& style);
std::string render_egress_check(const Json& answer, const Style& style);
/// The rules of `plan` and `config show`, by where they come from.
std::string render_egress_rules(const Json& egress, const Style& style);
std::string render_timing(const Json& timing, const Style& style);
std::string render_sync(const Json& result, const Style& style);
std::string render_artifacts(const Json& result, const Style& style);
std::string render_images(const Json& answer, const Style& style, unsigned width);
std::string render_agents(const Json& answer, const Style& style, unsigned width);
/// Of `agents update` and `agents pin`.
std::string render_agent_update(const Json& answer, const Style& style, unsigned width);
std::string render_image(const Json& image, const Style& style);
std::string render_plan(const Json& plan, const Style& style, unsigned width);
std::string render_config(const Json& config, const Style& style, unsigned width);
/// What a project's file asks for, never cut: what cannot be seen cannot be judged.
std::string render_trust(const Json& answer, const Style& style);
std::string render_doctor(const Json& report, const Style& style);
/// What somebody who knows nothing of this host needs to understand what is wrong with it: `doctor`, `status --all`,
/// `config show`, the facts of the system and the manager's log, whose end is shown. It names no project, no sandbox
/// and nobody.
struct BugReport {
  Json doctor, status, config;
  std::string version, system, log;
  std::string user, host;                                    ///< hidden
  std::vector<std::pair<std::string, std::string>> folders;  ///< hidden: path and what stands for it
};
std::string render_bug_report(const BugReport& report);
std::string render_manager_status(const Json& status, const Style& style);
std::string render_worktrees(const Json& answer, const Style& style, unsigned width);
std::string render_disk_files(const Json& answer, const Style& style);
std::string render_wip(const Json& answer, const Style& style, unsigned width);
std::string render_wip_patch(const Json& answer, const Style& style);
std::string render_wip_apply(const Json& result, const Style& style);
/// What `destroy` would lose and what stays, line by line, from the answer of `losses`.
std::vector<std::string> render_losses(const Json& losses);

}  // namespace agentvm::cli
