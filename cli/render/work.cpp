// What is on its way: work trees, snapshots of uncommitted work, and what a destroy would lose.

#include <fmt/format.h>

#include "cli/render/render.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::cli {
namespace {

constexpr std::size_t brief_digits = 10, patch_limit_bytes = 1u << 20;

std::string brief(const Json& entry, const char* key) {
  return text_at(entry, key, "").substr(0, brief_digits);
}

std::string or_dash(const std::string& text) {
  return text.empty() ? "-" : text;
}

/// A patch as git colours it; cleaned once more, line by line.
std::string painted(const std::string& patch, const Style& style) {
  std::string text;
  for (std::size_t start = 0; start < patch.size();) {
    const auto end = std::min(patch.find('\n', start), patch.size());
    const auto line = clean_guest_text(patch.substr(start, end - start), Newlines::escape, patch_limit_bytes);
    const bool head = line.starts_with("+++") || line.starts_with("---") || line.starts_with("diff ");
    const auto tone = head                     ? Tone::strong
                      : line.starts_with('+')  ? Tone::good
                      : line.starts_with('-')  ? Tone::bad
                      : line.starts_with("@@") ? Tone::dim
                                               : Tone::plain;
    text += style.paint(tone, line) + "\n";
    start = end + 1;
  }
  return text;
}

std::string raw_text(const Json& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

}  // namespace

std::string render_worktrees(const Json& answer, const Style& style, unsigned width) {
  const auto& worktrees = list_at(answer, "worktrees");
  if (worktrees.empty()) return "";
  Table table({"BRANCH", "PENDING", "UNCOMMITTED", "SESSION", "PATH"});
  for (const auto& worktree : worktrees) {
    const auto pending = number_at(worktree, "pending_commits"), changed = number_at(worktree, "uncommitted_files");
    table.add({{or_dash(text_at(worktree, "branch", ""))},
               {counted(pending, "commit"), pending > 0 ? Tone::warning : Tone::plain},
               {counted(changed, "file"), changed > 0 ? Tone::warning : Tone::plain},
               {text_at(worktree, "session")},
               {text_at(worktree, "path")}});
  }
  return table.text(style, width);
}

std::string render_disk_files(const Json& answer, const Style& style) {
  const auto& entries = list_at(answer, "entries");
  if (entries.empty()) return "";
  Table table({"KIND", "MODE", "OWNER", "SIZE", "MODIFIED", "NAME"});
  for (const auto& entry : entries) {
    const auto target = text_at(entry, "target", "");
    const bool file = text_at(entry, "kind") == "file";
    table.add({{text_at(entry, "kind")},
               {text_at(entry, "mode")},
               {fmt::format("{}:{}", number_at(entry, "uid"), number_at(entry, "gid"))},
               {file ? size(number_at(entry, "size")) : "-"},
               {text_at(entry, "modified")},
               {text_at(entry, "name") + (target.empty() ? "" : " -> " + target)}});
  }
  return table.text(style);
}

std::string render_wip(const Json& answer, const Style& style, unsigned width) {
  const auto& entries = list_at(answer, "wip");
  if (entries.empty()) return "";
  const bool several = !answer.is_object() || !answer.contains("name") || answer["name"].is_null();
  Table table(several ? std::vector<std::string>{"SANDBOX", "WIP", "TIME", "BRANCH", "BASE", "FILES", "TAKEN"}
                      : std::vector<std::string>{"WIP", "TIME", "BRANCH", "BASE", "FILES", "TAKEN"});
  for (const auto& entry : entries) {
    std::vector<Table::Cell> row;
    if (several) row.push_back({text_at(entry, "sandbox")});
    row.push_back({text_at(entry, "name")});
    row.push_back({text_at(entry, "time")});
    row.push_back({or_dash(text_at(entry, "branch", ""))});
    row.push_back({or_dash(brief(entry, "base")), Tone::dim});
    row.push_back({std::to_string(number_at(entry, "files_changed"))});
    row.push_back({text_at(entry, "kind") == "timer" ? "by the timer" : "to be kept"});
    table.add(std::move(row));
  }
  return table.text(style, width);
}

std::string render_wip_patch(const Json& answer, const Style& style) {
  const auto branch = text_at(answer, "branch", ""), base = brief(answer, "base");
  auto text = fmt::format("{} of {}, taken {}\n", style.paint(Tone::strong, text_at(answer, "name")),
                          text_at(answer, "sandbox"), text_at(answer, "time"));
  text += fmt::format("on {} at {}\n\n", branch.empty() ? "no branch" : branch, base.empty() ? "no commit" : base);
  text += painted(raw_text(answer, "stat"), {}) + "\n" + painted(raw_text(answer, "patch"), style);
  if (true_at(answer, "cut")) text += fmt::format("... the rest: git show {}\n", text_at(answer, "ref"));
  return text;
}

std::string render_wip_apply(const Json& result, const Style& style) {
  const auto outcome = text_at(result, "result"), name = text_at(result, "name");
  const auto& files = list_at(result, "files");
  const auto count = number_at(result, "files_changed");
  std::string text;
  if (outcome == "applied")
    text = fmt::format("{}: {} changed in your work tree, not staged\n", style.paint(Tone::good, name),
                       counted(count, "file"));
  else if (outcome == "up-to-date")
    text = fmt::format("{}: your work tree has all of it\n", name);
  else
    text =
        fmt::format("{} not applied ({}): {}\n", style.paint(Tone::warning, name), outcome, text_at(result, "reason"));
  if (outcome == "applied") {
    for (const auto& file : files)
      text += fmt::format("  {}\n", clean(file.is_string() ? file.get<std::string>() : ""));
    if (count > static_cast<std::int64_t>(files.size()))
      text += fmt::format("  ... and {} more\n", count - static_cast<std::int64_t>(files.size()));
  }
  for (const auto& file : list_at(result, "conflicts"))
    text += fmt::format("  {} {}\n", style.paint(Tone::bad, "differs:"),
                        clean(file.is_string() ? file.get<std::string>() : ""));
  for (const auto& file : list_at(result, "gated")) {
    text += fmt::format("  {} {}\n", style.paint(Tone::warning, text_at(file, "kind") + ":"), text_at(file, "path"));
    text += outcome == "gated" ? "      " + text_at(file, "excerpt", "") + "\n" : "";
  }
  bool first = true;
  for (const auto& command : list_at(result, "commands"))
    text += fmt::format("{}{}\n", std::exchange(first, false) ? "next:  " : "   or: ",
                        clean(command.is_string() ? command.get<std::string>() : ""));
  return text;
}

std::vector<std::string> render_losses(const Json& losses) {
  std::vector<std::string> lines;
  const auto state = text_at(losses, "state"), name = text_at(losses, "name");
  std::int64_t commits = 0, files = 0;
  for (const auto& worktree : list_at(losses, "worktrees")) {
    commits += number_at(worktree, "pending_commits");
    files += number_at(worktree, "uncommitted_files");
  }
  if (state == "running" || state == "paused") {
    if (true_at(losses, "asked"))
      lines.push_back(commits + files == 0
                          ? "it has no commit that your host lacks, and nothing uncommitted"
                          : fmt::format("only in it: {} and uncommitted changes in {}; they are kept on the host first",
                                        counted(commits, "commit"), counted(files, "file")));
    else
      lines.push_back("it does not say what is only in it: " + text_at(losses, "problem", "no answer"));
    lines.emplace_back("lost: what runs in it now, ignored files, and all of its disk outside the repository");
  } else {
    if (true_at(losses, "unsaved"))
      lines.push_back(fmt::format(
          "only in it: what was done since its work was last kept ({}); its files are read, and kept on the host first",
          text_at(losses, "reason")));
    lines.emplace_back("lost: ignored files, and all of its disk outside the repository");
  }
  const auto aside = number_at(losses, "kept_commits"), wip = number_at(losses, "kept_wip");
  if (aside > 0)
    lines.push_back(
        fmt::format("stays: {} in refs/agentvm/{}/ that none of your branches has", counted(aside, "commit"), name));
  if (wip > 0)
    lines.push_back(fmt::format("stays: {} of uncommitted work (agentvm wip list {})", counted(wip, "snapshot"), name));
  return lines;
}

}  // namespace agentvm::cli
