#include "sync/gate.hpp"

#include <algorithm>

#include "sync/gate_table.hpp"

namespace agentvm::sync {
namespace {

constexpr unsigned mode_executable = 0100755;

std::string lower(std::string_view text) {
  std::string result(text);
  for (auto& c : result)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return result;
}

/// Every state of the pattern that the text so far can be in: no backtracking, so no pattern is slow.
bool glob_matches(std::string_view glob, std::string_view text) {
  const auto wild = glob.find_first_of("*?");
  if (wild == std::string_view::npos) return glob == text;
  if (!text.starts_with(glob.substr(0, wild))) return false;  // most of the table ends here, for most files
  std::vector<char> now(glob.size() + 1, 0), next;
  const auto close = [&](std::vector<char>& states) {  // a star may stand for nothing
    for (std::size_t i = 0; i < glob.size(); ++i)
      if (states[i] && glob[i] == '*') {
        states[i + 1] = 1;
        // "**/" is also no folder at all
        if (glob.substr(i).starts_with("**/") && (i == 0 || glob[i - 1] == '/')) states[i + 3] = 1;
      }
  };
  now[0] = 1;
  close(now);
  for (const char c : text) {
    next.assign(glob.size() + 1, 0);
    for (std::size_t i = 0; i < glob.size(); ++i) {
      if (!now[i]) continue;
      const bool deep =
          glob[i] == '*' && ((i + 1 < glob.size() && glob[i + 1] == '*') || (i > 0 && glob[i - 1] == '*'));
      if (glob[i] == '*' && (c != '/' || deep)) next[i] = 1;
      if ((glob[i] == '?' && c != '/') || (glob[i] == c && c != '*')) next[i + 1] = 1;
    }
    close(next);
    now.swap(next);
  }
  return now[glob.size()];
}

bool rule_matches(const GateRule& rule, std::string_view path) {
  if (rule.glob.find('/') != std::string_view::npos) return path_matches(rule.glob, path);
  return glob_matches(rule.glob, path.substr(path.rfind('/') + 1));
}

bool any_matches(const std::vector<std::string>& globs, const std::string& path) {
  return std::any_of(globs.begin(), globs.end(), [&](const std::string& glob) { return path_matches(glob, path); });
}

}  // namespace

bool path_matches(std::string_view glob, std::string_view path) {
  const bool rooted = glob.starts_with('/');
  if (rooted) glob.remove_prefix(1);
  if (glob.empty()) return false;
  const bool folder = glob.ends_with('/');
  if (folder) glob.remove_suffix(1);
  const bool anywhere = !rooted && glob.find('/') == std::string_view::npos;
  // The whole path, and every folder above it: what matches a folder matches all below.
  for (std::size_t end = path.size();;) {
    const auto part = path.substr(0, end);
    const auto subject = anywhere ? part.substr(part.rfind('/') + 1) : part;
    if ((!folder || end < path.size()) && glob_matches(glob, subject)) return true;
    end = part.rfind('/');
    if (end == std::string_view::npos) return false;
  }
}

bool link_stays_inside(std::string_view path, std::string_view target) {
  if (target.empty() || target.starts_with('/') || target.find('\0') != std::string_view::npos) return false;
  auto depth = std::count(path.begin(), path.end(), '/');
  bool went_down = false;
  for (std::size_t start = 0; start <= target.size();) {
    const auto end = std::min(target.find('/', start), target.size());
    const auto part = target.substr(start, end - start);
    start = end + 1;
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      // Behind a folder that is itself a link, '..' is somewhere else than it looks.
      if (went_down || --depth < 0) return false;
    } else {
      if (lower(part) == ".git") return false;
      went_down = true;
    }
  }
  return true;
}

std::optional<std::string> gate_kind(const IncomingFile& file, const GatePolicy& policy) {
  if (any_matches(policy.always, file.path)) return "agentvm";
  const auto name = lower(file.path);
  for (const auto& rule : gate_rules())
    if (rule.always && rule_matches(rule, name)) return std::string(rule.kind);
  if (any_matches(policy.deny, file.path)) return "denied-path";
  if (any_matches(policy.allow, file.path)) return std::nullopt;
  if (file.new_mode == mode_submodule) return "submodule";
  if (file.new_mode == mode_link && !(file.link_target && link_stays_inside(file.path, *file.link_target)))
    return "symlink-out";
  for (const auto& rule : gate_rules())
    if (rule_matches(rule, name)) return std::string(rule.kind);
  if (file.new_mode == mode_executable && file.old_mode != mode_executable) return "executable";
  return std::nullopt;
}

}  // namespace agentvm::sync
