#include <algorithm>
#include <set>
#include <sstream>

#include <fmt/format.h>

#include "cli/render/redact.hpp"
#include "cli/render/render.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::cli {
namespace {

std::string short_hash(const std::string& hash) {
  constexpr std::size_t digits = 10;
  return hash.size() > digits && hash.find_first_not_of("0123456789abcdef") == std::string::npos
             ? hash.substr(0, digits)
             : hash;
}

/// An item that is text, or an object with the text under `key`.
std::string item_text(const Json& item, const std::string& key) {
  return item.is_string() ? clean(item.get<std::string>()) : text_at(item, key);
}

/// An origin as the configuration's table gives it: text, or {layer, source | file, line, column}.
std::string origin_text(const Json& row) {
  if (!row.is_object() || !row.contains("origin")) return "-";
  const auto& origin = row["origin"];
  if (!origin.is_object()) return text_at(row, "origin");
  if (origin.contains("file"))
    return fmt::format("{}:{}:{}", text_at(origin, "file"), number_at(origin, "line"), number_at(origin, "column"));
  return origin.contains("source") ? text_at(origin, "source") : text_at(origin, "layer");
}

std::string value_text(const Json& row) {
  if (!row.is_object() || !row.contains("value") || row["value"].is_null()) return "-";
  if (row.contains("text")) return text_at(row, "text");
  const auto& value = row["value"];
  if (value.is_number() && text_at(row, "type") == "size") return size(value.get<std::int64_t>());
  if (!value.is_array()) return text_at(row, "value");
  std::string result;
  for (const auto& item : value)
    result +=
        (result.empty() ? "" : ", ") + (item.is_string() ? clean(item.get<std::string>()) : clean(dump_json(item)));
  return result.empty() ? "-" : result;
}

std::string rows_of_keys(const Json& keys, const Style& style, unsigned width) {
  Table table({"KEY", "VALUE", "FROM"});
  for (const auto& row : keys) table.add({{text_at(row, "name")}, {value_text(row)}, {origin_text(row), Tone::dim}});
  return table.text(style, width);
}

/// The user's own commits on their way into the sandbox.
std::string pushed_lines(const Json& result, const Style& style) {
  if (!result.contains("pushed") || !result["pushed"].is_object()) return "";
  const auto& pushed = result["pushed"];
  const auto what = fmt::format("{} of yours", counted(number_at(pushed, "commits"), "commit"));
  const bool is_new = text_at(pushed, "old_tip", "").empty();
  const auto where =
      fmt::format("{} {}", is_new ? "the sandbox, as its new branch" : "the sandbox's", text_at(pushed, "branch"));
  if (true_at(pushed, "done")) return fmt::format("  {} {} to {}\n", style.paint(Tone::good, "sent"), what, where);
  if (true_at(result, "dry_run")) return fmt::format("  would send {} to {}\n", what, where);
  return fmt::format("  {} did not go to {}: {}\n", what, where, text_at(pushed, "refusal"));
}

/// "a, b, c and 4 more".
std::string named(const std::vector<std::string>& names) {
  constexpr std::size_t shown_limit = 5;
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), shown_limit); ++i) text += (i ? ", " : "") + names[i];
  return names.size() > shown_limit ? fmt::format("{} and {} more", text, names.size() - shown_limit) : text;
}

/// A branch that has gone on on both sides, and what a merge would meet.
std::string parted_line(const Json& entry) {
  std::vector<std::string> files;
  for (const auto& file : list_at(entry, "conflicts")) files.push_back(item_text(file, "path"));
  const bool tried = entry.contains("conflicts") && entry["conflicts"].is_array();
  return fmt::format("  {} went on both here and in the sandbox{}\n", text_at(entry, "branch"),
                     !files.empty() ? fmt::format("; {} would conflict: {}",
                                                  counted(static_cast<long long>(files.size()), "file"), named(files))
                     : tried        ? "; they would merge without a conflict"
                                    : "");
}

/// Branches that only one side has, or has otherwise.
std::string apart_lines(const Json& result) {
  constexpr std::size_t parted_limit = 8;
  std::vector<std::string> gone, missing, removed, behind, different;
  std::string parted;
  std::size_t parted_count = 0;
  for (const auto& entry : list_at(result, "gone")) gone.push_back(item_text(entry, "branch"));
  for (const auto& entry : list_at(result, "apart")) {
    const auto branch = text_at(entry, "branch"), standing = text_at(entry, "standing");
    if (standing == "missing") missing.push_back(branch);
    if (standing == "removed" && std::find(gone.begin(), gone.end(), branch) == gone.end()) removed.push_back(branch);
    if (standing == "behind") behind.push_back(fmt::format("{} (+{})", branch, number_at(entry, "commits")));
    if (standing == "diverged" && ++parted_count <= parted_limit) parted += parted_line(entry);
    if (standing == "different") different.push_back(branch);
  }
  std::string text;
  if (!gone.empty())
    text +=
        fmt::format("  no more in the sandbox, kept in refs/agentvm/{}: {}\n", text_at(result, "sandbox"), named(gone));
  if (!missing.empty()) text += fmt::format("  only here, not in the sandbox: {}\n", named(missing));
  if (!behind.empty()) text += fmt::format("  further here than in the sandbox: {}\n", named(behind));
  if (!missing.empty() || !behind.empty()) text += "    a branch goes there when you have it checked out\n";
  text += parted;
  if (parted_count > parted_limit) text += fmt::format("  ... and {} more did\n", parted_count - parted_limit);
  if (!removed.empty()) text += fmt::format("  here, and removed in the sandbox: {}\n", named(removed));
  if (!different.empty()) text += fmt::format("  not the same here and in the sandbox: {}\n", named(different));
  return text;
}

}  // namespace

std::string render_sync(const Json& result, const Style& style) {
  const auto outcome = text_at(result, "result");
  const auto branch = text_at(result, "branch");
  const auto reason = text_at(result, "reason", "");
  std::string text;
  if (outcome == "updated") {
    // Checked commits can arrive without the branch moving: it is not checked out, or the reason says why.
    const bool moved = !result.contains("moved") || true_at(result, "moved");
    const auto from = text_at(result, "switched_from", "");
    const auto what = true_at(result, "dry_run") ? "would be updated"
                      : moved && !from.empty()   ? "checked out"
                      : moved                    ? "updated"
                                                 : "received, your branch did not move";
    text = fmt::format("{} {}: {}, {} changed, +{} -{} ({}..{}){}\n", style.paint(Tone::good, branch), what,
                       counted(number_at(result, "commits"), "commit"),
                       counted(number_at(result, "files_changed"), "file"), number_at(result, "insertions"),
                       number_at(result, "deletions"), short_hash(text_at(result, "old_tip")),
                       short_hash(text_at(result, "new_tip")), reason.empty() ? "" : ": " + reason);
    if (!from.empty()) text += fmt::format("  you were on {}, where nothing changed\n", from);
  } else {
    const bool current = outcome == "up-to-date";
    text = fmt::format("{} {}{}\n", current ? branch : style.paint(Tone::warning, branch),
                       current ? "is up to date" : "not moved (" + outcome + ")",
                       reason.empty() || reason == "nothing new" ? "" : ": " + reason);
  }
  for (const auto& commit : list_at(result, "log"))
    text +=
        fmt::format("  {} {}\n", style.paint(Tone::dim, short_hash(text_at(commit, "id"))), text_at(commit, "subject"));
  for (const auto& ref : list_at(result, "refs")) {
    text += fmt::format("  {} {}\n", text_at(ref, "name"), style.paint(Tone::dim, short_hash(text_at(ref, "new"))));
    if (const auto kept = text_at(ref, "kept_as", ""); !kept.empty())
      text += fmt::format("    rewritten in the guest; its old tip is kept as {}\n", kept);
  }
  for (const auto& ref : list_at(result, "rejected"))
    text += fmt::format("  {} {}: it {}\n", style.paint(Tone::bad, "rejected"), text_at(ref, "ref"),
                        text_at(ref, "reason"));
  text += pushed_lines(result, style);
  const auto gated = list_at(result, "gated");
  for (const auto& file : gated) {
    text += fmt::format("  {} {}\n", style.paint(Tone::warning, text_at(file, "kind") + ":"), text_at(file, "path"));
    std::istringstream lines(text_at(file, "excerpt", ""));
    for (std::string line; std::getline(lines, line);) text += "      " + style.paint(Tone::dim, line) + "\n";
  }
  if (const auto count = number_at(result, "gated_count"); count > static_cast<long long>(gated.size()))
    text += fmt::format("  ... and {} more\n", count - static_cast<long long>(gated.size()));
  for (const auto& conflict : list_at(result, "conflicts"))
    text += fmt::format("  {} {}\n", style.paint(Tone::bad, outcome == "conflict" ? "would conflict:" : "in the way:"),
                        item_text(conflict, "path"));
  for (const auto& ref : list_at(result, "rescued")) text += fmt::format("  kept as {}\n", item_text(ref, "name"));
  text += apart_lines(result);
  bool first = true;
  for (const auto& command : list_at(result, "commands"))
    text += fmt::format("{}{}\n", std::exchange(first, false) ? "next:  " : "   or: ", item_text(command, "command"));
  return text;
}

/// "2, 310M"
std::string templates_text(const Json& templates) {
  std::int64_t bytes = 0;
  for (const auto& one : templates) bytes += number_at(one, "size_bytes");
  return templates.empty() ? "-" : fmt::format("{}, {}", templates.size(), size(bytes));
}

std::string render_images(const Json& answer, const Style& style, unsigned width) {
  const auto& images = list_at(answer, "images");
  if (images.empty()) return "";
  Table table({"IMAGE", "DIGEST", "SIZE", "TEMPLATES", "BUILT", "USED BY"});
  std::string damaged;
  for (const auto& image : images) {
    std::string users;
    for (const auto& user : list_at(image, "used_by")) users += (users.empty() ? "" : ", ") + item_text(user, "name");
    table.add({{text_at(image, "name")},
               {short_hash(text_at(image, "digest")), Tone::dim},
               {size(number_at(image, "size_bytes", -1))},
               {templates_text(list_at(image, "templates"))},
               {text_at(image, "built")},
               {users.empty() ? "-" : users}});
    const auto damage = text_at(image, "damage", "");
    if (!damage.empty())
      damaged +=
          style.paint(Tone::bad, fmt::format("{} is damaged: {}\n", short_hash(text_at(image, "digest")), damage));
  }
  return table.text(style, width) + damaged;
}

std::string render_agents(const Json& answer, const Style& style, unsigned width) {
  Table table({"AGENT", "PROGRAM", "VERSION", "NEWEST", "INSTALLED", "FROM"});
  for (const auto& agent : list_at(answer, "agents")) {
    const auto lock = text_at(agent, "lock", ""), version = text_at(agent, "version", "-");
    const auto newest = text_at(object_at(agent, "newest"), "version", "-");
    table.add({{text_at(agent, "name")},
               {text_at(agent, "title")},
               {lock.empty() ? version : fmt::format("{} ({})", version, lock)},
               {newest, newest == version ? Tone::dim : Tone::plain},
               {!true_at(agent, "installed") ? "when first used" : size(number_at(agent, "size_bytes", -1)),
                true_at(agent, "installed") ? Tone::plain : Tone::dim},
               {text_at(agent, "origin"), Tone::dim}});
  }
  return table.text(style, width);
}

std::string render_agent_update(const Json& answer, const Style& style, unsigned width) {
  Table table({"AGENT", "VERSION", "NOW", "RESULT"});
  for (const auto& agent : list_at(answer, "agents")) {
    const auto result = text_at(agent, "result");
    const bool changes = result == "updated" || result == "would-update";
    table.add({{text_at(agent, "name")},
               {text_at(agent, "from", "-")},
               {text_at(agent, "to", "-")},
               {result, result == "failed" ? Tone::bad
                        : changes          ? Tone::good
                                           : Tone::dim}});
  }
  return table.text(style, width);
}

std::string render_image(const Json& image, const Style& style) {
  std::vector<std::pair<std::string, std::string>> rows;
  for (const auto& [key, value] : image.items()) {
    if (key == "schema" || value.is_null()) continue;
    if (key.ends_with("_bytes") && value.is_number()) {
      rows.emplace_back(clean(key.substr(0, key.size() - 6)), size(value.get<std::int64_t>()));
    } else if (value.is_array()) {
      std::string items;
      for (const auto& item : value)
        items +=
            (items.empty() ? "" : " ") + (item.is_string() ? clean(item.get<std::string>()) : clean(dump_json(item)));
      rows.emplace_back(clean(key), items.empty() ? "-" : items);
    } else {
      rows.emplace_back(clean(key), text_at(image, key));
    }
  }
  return labelled(rows, style);
}

std::string render_config(const Json& config, const Style& style, unsigned width) {
  const auto rules = render_egress_rules(object_at(config, "egress"), style);
  return rows_of_keys(list_at(config, "keys"), style, width) + (rules.empty() ? "" : "\n" + rules);
}

namespace {

std::string item_texts(const Json& items) {
  std::string text;
  for (const auto& item : items)
    if (item.is_string()) text += (text.empty() ? "" : ", ") + clean(item.get<std::string>());
  return text;
}

/// Of a secret: where this host has it from.
std::string source_text(const std::string& source) {
  return source == "env" ? "a variable" : source == "file" ? "a file" : "a command";
}

}  // namespace

std::string render_plan(const Json& plan, const Style& style, unsigned width) {
  std::string text;
  if (const auto& run = object_at(plan, "run"); !run.empty()) {
    std::string command;
    for (const auto& word : list_at(run, "argv"))
      if (word.is_string()) command += (command.empty() ? "" : " ") + shell_word(clean(word.get<std::string>()));
    const auto from = text_at(run, "repository", "");
    text += fmt::format("{} in a sandbox {}, with a copy of {}\n", command.empty() ? "A command" : command,
                        true_at(run, "kept") ? "that stays" : "of its own, which goes afterwards",
                        from.empty() ? text_at(plan, "project") : from);
  }
  for (const auto& step : list_at(plan, "steps")) {
    if (step.is_string())
      text += fmt::format("- {}\n", clean(step.get<std::string>()));
    else
      text += fmt::format(
          "- {}{}\n", text_at(step, "text"),
          text_at(step, "reason", "").empty() ? "" : style.paint(Tone::dim, " (" + text_at(step, "reason") + ")"));
  }
  const auto& keys = !list_at(plan, "values").empty() ? list_at(plan, "values") : list_at(plan, "keys");
  if (!keys.empty()) text += (text.empty() ? "" : "\n") + rows_of_keys(keys, style, width);
  for (const auto& file : list_at(plan, "credentials"))
    if (file.is_string()) text += fmt::format("\nthe guest is lent {}\n", clean(file.get<std::string>()));
  const auto& egress = object_at(plan, "egress");
  if (egress.empty()) return text;
  text += fmt::format("\n{}\n  {}\n", style.paint(Tone::strong, "network " + text_at(egress, "mode")),
                      text_at(egress, "exposes"));
  if (const auto upstream = text_at(egress, "upstream", "direct"); upstream != "direct")
    text += fmt::format("  through the proxy {}, which resolves names itself\n",
                        upstream == "environment" ? "of the environment" : upstream);
  for (const auto& secret : list_at(egress, "secrets"))
    text += fmt::format(
        "  TLS to {} is ended here: {}, from {}, takes the place of ${} in {}{}\n",
        item_texts(list_at(secret, "hosts")), text_at(secret, "name"), source_text(text_at(secret, "source")),
        text_at(secret, "env"), item_texts(list_at(secret, "header")),
        list_at(secret, "requests").empty() ? "" : ", for " + item_texts(list_at(secret, "requests")) + " alone");
  for (const auto& cap : list_at(egress, "caps"))
    if (cap.is_string()) text += fmt::format("  no more than {}\n", clean(cap.get<std::string>()));
  for (const auto& decoy : list_at(egress, "decoys"))
    text +=
        fmt::format("  a decoy is in {}: whoever sends it anywhere freezes the sandbox, and TLS to {} is ended here\n",
                    text_at(decoy, "file"), item_texts(list_at(decoy, "hosts")));
  if (true_at(egress, "ask")) text += "  names that no rule is about wait for your answer (egress.ask)\n";
  return text + render_egress_rules(egress, style);
}

std::string render_doctor(const Json& report, const Style& style) {
  std::string text;
  std::int64_t failed = 0, warned = 0;
  for (const auto& check : list_at(report, "checks")) {
    const auto status = text_at(check, "status");
    const auto tone = status == "pass" ? Tone::good : status == "warn" ? Tone::warning : Tone::bad;
    failed += status == "fail";
    warned += status == "warn";
    text += fmt::format("{}  {}  {}\n", style.paint(tone, fmt::format("{:<4}", status)),
                        style.paint(Tone::strong, text_at(check, "id")), text_at(check, "finding", ""));
    if (const auto remedy = text_at(check, "remedy", ""); status != "pass" && !remedy.empty())
      text += fmt::format("      try: {}\n", remedy);
  }
  if (failed > 0)
    text += fmt::format("\n{} failed: a start would fail too\n", counted(failed, "check"));
  else
    text += warned > 0 ? fmt::format("\nReady, with {}\n", counted(warned, "warning")) : "\nReady\n";
  return text;
}

namespace {

constexpr std::size_t reported_log_bytes = 16u << 10;

/// The sandboxes that the manager's log tells of, those that are gone included.
std::set<std::string> sandboxes_in(const std::string& log) {
  constexpr std::string_view before = " sandbox: ", after = " is ";
  std::set<std::string> names;
  std::istringstream lines(log);
  for (std::string line; std::getline(lines, line);)
    if (const auto at = line.find(before); at != std::string::npos)
      if (const auto end = line.find(after, at + before.size()); end != std::string::npos)
        names.insert(line.substr(at + before.size(), end - at - before.size()));
  return names;
}

/// Whatever is below the home folder may be named after a project, also one that is gone.
std::string without_home_paths(std::string text) {
  constexpr std::string_view home = "~/", end = " \n'\"`,:;()<>";
  for (auto at = text.find(home); at != std::string::npos; at = text.find(home, at + home.size())) {
    const auto stop = std::min(text.find_first_of(end, at), text.size());
    text.replace(at + home.size(), stop - at - home.size(), "...");
  }
  return text;
}

std::string last_lines(const std::string& text, std::size_t bytes) {
  if (text.size() <= bytes) return text;
  return text.substr(std::min(text.find('\n', text.size() - bytes), text.size() - 1) + 1);
}

}  // namespace

std::string render_bug_report(const BugReport& report) {
  Redactor redactor;
  for (const auto& [path, placeholder] : report.folders) redactor.hide(path, placeholder);
  redactor.hide(report.user, "<user>");
  redactor.hide(report.host, "<host>");
  const auto problem = [](const Json& answer) {
    const auto text = text_at(answer, "problem", "");
    return text.empty() ? text : text + "\n";
  };
  std::string sandboxes = problem(report.status);
  std::size_t number = 0;
  for (const auto& status : list_at(report.status, "sandboxes")) {
    const auto alias = fmt::format("sandbox-{}", ++number);
    redactor.hide(text_at(status, "name", ""), alias);
    redactor.hide(text_at(status, "project", ""), fmt::format("<project-{}>", number));
    redactor.hide(text_at(status, "branch", ""), "<branch>");
    sandboxes += fmt::format("{}: {} ({}), {} {}, {} of memory, {} vCPUs, {}, network {}, nested {}\n", alias,
                             text_at(status, "state"), text_at(status, "reason"), text_at(status, "backend"),
                             text_at(status, "accelerator"), size(number_at(status, "memory_bytes", -1)),
                             text_at(status, "vcpus"), text_at(status, "workspace_mode"), text_at(status, "network"),
                             true_at(status, "nested") ? "yes" : "no");
    if (const auto message = text_at(status, "message", ""); !message.empty()) sandboxes += "  " + message + "\n";
  }
  std::size_t gone = 0;
  for (const auto& name : sandboxes_in(report.log)) redactor.hide(name, fmt::format("gone-{}", ++gone));
  std::string settings = problem(report.config);
  for (const auto& key : list_at(report.config, "keys")) {
    const auto layer = text_at(object_at(key, "origin"), "layer");
    if (layer == "default") continue;
    const auto value = key.find("value");
    // Names of hosts, paths and commands are nobody's business.
    const auto shown = value == key.end()  ? std::string("-")
                       : value->is_array() ? counted(static_cast<std::int64_t>(value->size()), "entry")
                       : value->is_boolean() || value->is_number() ? value->dump()
                       : text_at(key, "type") == "choice"          ? text_at(key, "text")
                                                                   : std::string("(set)");
    settings += fmt::format("{} = {}  ({})\n", text_at(key, "name"), shown, layer);
  }
  const auto section = [](const char* title, const std::string& text) {
    return fmt::format("\n## {}\n\n{}", title, text.empty() ? "none\n" : text);
  };
  return without_home_paths(
      redactor.apply(fmt::format("# agentvm {}\n\n{}\n", report.version, report.system) +
                     section("doctor", render_doctor(report.doctor, Style{})) + section("sandboxes", sandboxes) +
                     section("settings that are not the defaults", settings) +
                     section("end of the manager's log", last_lines(report.log, reported_log_bytes))));
}

std::string render_manager_status(const Json& status, const Style& style) {
  return labelled({{"Manager", fmt::format("pid {}, version {}", number_at(status, "pid"), text_at(status, "version"))},
                   {"Up", duration(number_at(status, "uptime_seconds", -1))},
                   {"Socket", text_at(status, "socket")},
                   {"Log", text_at(status, "log")},
                   {"Sandboxes", text_at(status, "sandboxes", "0")}},
                  style);
}

}  // namespace agentvm::cli
