#include "sync/host_git.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include "vmm/base/error.hpp"
#include "vmm/base/text.hpp"

extern char** environ;

namespace agentvm::sync {
namespace {

// Listings of large repositories (names of untracked files, references) must fit; everything is trusted and ours.
constexpr std::size_t output_limit_bytes = 512u << 20;

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const auto end = std::min(text.find(separator), text.size());
    parts.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

[[noreturn]] void fail(const fs::path& folder, const std::vector<std::string>& args, const RunResult& result) {
  auto text = result.err;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  if (text.find("not a git repository") != std::string::npos)
    throw Error(ErrorCode::not_found, fmt::format("{} is not a git repository", folder.string()),
                fmt::format("git init {}", folder.string()));
  if (text.find("dubious ownership") != std::string::npos)
    throw Error(ErrorCode::operation_failed,
                fmt::format("git does not trust {}: it belongs to another user", folder.string()),
                fmt::format("git config --global --add safe.directory {}", folder.string()));
  // The message proper is the line git marks; hints and progress stand around it.
  for (const auto& line : split_lines(text))
    if (line.starts_with("fatal: ") || line.starts_with("error: ")) {
      text = line;
      break;
    }
  // A name in it may be one that a guest has committed.
  throw Error(ErrorCode::operation_failed,
              fmt::format("git {} in {} failed ({}): {}", args.empty() ? "" : args.front(), folder.string(),
                          result.status.describe(), clean_guest_text(text, Newlines::keep, 2000)));
}

}  // namespace

std::vector<std::string> split_nul(std::string_view text) {
  return split(text, '\0');
}
std::vector<std::string> split_lines(std::string_view text) {
  return split(text, '\n');
}

std::map<std::string, std::string> git_environment() {
  std::map<std::string, std::string> env;
  for (char** entry = environ; *entry; ++entry) {
    const std::string_view text(*entry);
    const auto equals = text.find('=');
    if (equals == std::string_view::npos || text.starts_with("GIT_") || text.starts_with("SSH_ASKPASS")) continue;
    env.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  env["LC_ALL"] = "C";
  env["GIT_TERMINAL_PROMPT"] = "0";
  env["GIT_ASKPASS"] = "false";
  env["GIT_EDITOR"] = "false";
  env["GIT_PAGER"] = "cat";
  env["GIT_OPTIONAL_LOCKS"] = "0";
  env["GIT_ADVICE"] = "0";
  return env;
}

HostGit HostGit::with_env(const std::string& name, const std::string& value) const {
  HostGit copy = *this;
  copy.extra_[name] = value;
  return copy;
}

ProcessSpec HostGit::spec(std::vector<std::string> args) const {
  ProcessSpec spec;
  spec.argv = {"git", "--no-pager"};
  for (const char* setting : {"core.hooksPath=/dev/null", "gc.auto=0", "maintenance.auto=false",
                              "submodule.recurse=false", "fetch.recurseSubmodules=false", "core.fsmonitor=false",
                              "core.quotePath=false", "advice.detachedHead=false", "protocol.ext.allow=never"}) {
    spec.argv.emplace_back("-c");
    spec.argv.emplace_back(setting);
  }
  spec.argv.insert(spec.argv.end(), args.begin(), args.end());
  auto env = git_environment();
  if (config_ == Config::none) {
    env["GIT_CONFIG_NOSYSTEM"] = "1";
    env["GIT_CONFIG_GLOBAL"] = "/dev/null";
    env["GIT_ATTR_NOSYSTEM"] = "1";
  }
  for (const auto& [name, value] : extra_) env[name] = value;
  spec.env = std::move(env);
  spec.cwd = folder_.string();
  return spec;
}

RunResult HostGit::run(std::vector<std::string> args, Deadline deadline, std::string_view input) const {
  return agentvm::run(spec(std::move(args)), deadline, input, output_limit_bytes);
}

std::string HostGit::output(std::vector<std::string> args, Deadline deadline, std::string_view input) const {
  auto result = run(args, deadline, input);
  if (!result.status.ok()) fail(folder_, args, result);
  return std::move(result.out);
}

std::string HostGit::line(std::vector<std::string> args, Deadline deadline) const {
  auto text = output(std::move(args), deadline);
  while (text.ends_with('\n')) text.pop_back();
  return text;
}

std::optional<std::string> HostGit::try_line(std::vector<std::string> args, Deadline deadline) const {
  auto result = run(std::move(args), deadline);
  if (!result.status.ok()) return std::nullopt;
  while (result.out.ends_with('\n')) result.out.pop_back();
  return std::move(result.out);
}

bool HostGit::succeeds(std::vector<std::string> args, Deadline deadline) const {
  return run(std::move(args), deadline).status.ok();
}

}  // namespace agentvm::sync
