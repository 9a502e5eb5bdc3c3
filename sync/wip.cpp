#include "sync/wip.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "sync/ref_writer.hpp"
#include "sync/refs.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::sync {
namespace {

constexpr std::string_view subject_prefix = "Uncommitted work on ";
constexpr std::size_t stat_limit_bytes = 64u << 10;

/// "2026-11-22T161141Z", as names were before wip/.
std::optional<std::int64_t> rescue_time(std::string_view text) {
  std::string stamp(text);
  std::erase(stamp, '-');
  return text.size() == stamp.size() + 2 ? stamp_time(stamp) : std::nullopt;
}

/// Fills sandbox, name, time, kind and label; false when the reference is none of ours to list.
bool read_ref(WipEntry& entry) {
  const auto rest = std::string_view(entry.ref).substr(own_prefix.size());
  const auto slash = rest.find('/'), second = rest.find('/', slash + 1);
  if (slash == rest.npos || second == rest.npos) return false;
  entry.sandbox = rest.substr(0, slash);
  entry.name = rest.substr(second + 1);
  const auto family = rest.substr(slash + 1, second - slash - 1);
  if (family == "rescue") {
    const auto time = rescue_time(entry.name);
    entry.time = time.value_or(0);
    return time.has_value();
  }
  const auto name = parse_wip_name(entry.name);
  if (family != "wip" || !name) return false;
  entry.time = *stamp_time(name->stamp);
  entry.kind = name->kind;
  entry.label = name->label;
  return true;
}

std::vector<std::string> between(const WipEntry& entry) {
  return {entry.base.empty() ? empty_tree : entry.base, entry.commit};
}

std::vector<std::string> diff_tree(std::vector<std::string> options, const WipEntry& entry) {
  std::vector<std::string> args = {"diff-tree",     "-r",         "--no-renames",    "--no-ext-diff",
                                   "--no-textconv", "--no-color", "--src-prefix=a/", "--dst-prefix=b/"};
  args.insert(args.end(), options.begin(), options.end());
  const auto ends = between(entry);
  args.insert(args.end(), ends.begin(), ends.end());
  return args;
}

}  // namespace

std::vector<WipEntry> list_wip(const HostGit& git, const std::optional<std::string>& sandbox, Deadline deadline) {
  const auto prefix = sandbox ? mirror_ref(*sandbox, "") : std::string(own_prefix);
  std::vector<WipEntry> entries;
  for (const auto& line : split_lines(git.output(
           {"for-each-ref", "--format=%(objecttype) %(objectname) %(tree) %(parent) %(refname) %(subject)", prefix},
           deadline))) {
    if (!line.starts_with("commit ")) continue;
    // "commit ID TREE PARENT... refs/... subject": a commit before the first one has no parent.
    const auto at_ref = line.find(" refs/agentvm/");
    constexpr std::size_t head_bytes = 7 + 2 * (oid_hex_length + 1);
    if (at_ref == std::string::npos || at_ref + 1 < head_bytes) continue;
    WipEntry entry;
    entry.commit = line.substr(7, oid_hex_length);
    entry.tree = line.substr(8 + oid_hex_length, oid_hex_length);
    if (at_ref >= head_bytes + oid_hex_length) entry.base = line.substr(head_bytes, oid_hex_length);
    const auto end = std::min(line.find(' ', at_ref + 1), line.size());
    entry.ref = line.substr(at_ref + 1, end - at_ref - 1);
    if (!read_ref(entry)) continue;
    const auto subject = line.substr(std::min(end + 1, line.size()));
    if (subject.starts_with(subject_prefix)) entry.branch = subject.substr(subject_prefix.size());
    if (refname_problem(std::string(branch_prefix) + entry.branch)) entry.branch.clear();
    entries.push_back(std::move(entry));
  }
  std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.time > b.time; });
  return entries;
}

void count_files(const HostGit& git, std::vector<WipEntry>& entries, Deadline deadline) {
  for (auto& entry : entries)
    entry.files_changed = split_nul(git.output(diff_tree({"-z", "--name-only"}, entry), deadline)).size();
}

WipEntry find_wip(const HostGit& git, const std::string& sandbox, const std::optional<std::string>& wanted,
                  Deadline deadline) {
  auto entries = list_wip(git, sandbox, deadline);
  if (!wanted && !entries.empty()) return entries.front();
  for (auto& entry : entries)
    if (wanted && (entry.name == *wanted || entry.ref == *wanted)) return entry;
  if (!wanted)
    throw Error(ErrorCode::not_found, fmt::format("nothing uncommitted of '{}' is kept here", sandbox),
                "agentvm wip list");
  throw Error(ErrorCode::not_found,
              fmt::format("'{}' keeps nothing under '{}'", sandbox, clean_guest_text(*wanted, Newlines::escape, 100)),
              "agentvm wip list " + sandbox);
}

WipText show_wip(const HostGit& git, const WipEntry& entry, std::size_t limit_bytes, Deadline deadline) {
  const auto capped = [&](std::vector<std::string> options, std::size_t limit) {
    auto result = agentvm::run(git.spec(diff_tree(std::move(options), entry)), deadline, {}, limit + 1);
    if (!result.status.ok())
      throw Error(ErrorCode::operation_failed,
                  fmt::format("git cannot show {}: {}", entry.ref, result.status.describe()), "git show " + entry.ref);
    return std::move(result.out);
  };
  WipText text{capped({"--stat=100"}, stat_limit_bytes), capped({"-p"}, limit_bytes), false};
  if (text.patch.size() > limit_bytes) {
    text.cut = true;
    text.patch.resize(text.patch.rfind('\n', limit_bytes) + 1);
  }
  return text;
}

void drop_wip(const HostRepository& host, const HostGit& git, const std::vector<WipEntry>& entries, Deadline deadline) {
  std::vector<RefEdit> edits;
  for (const auto& entry : entries) edits.push_back({entry.ref, "", entry.commit});
  RefWriter(host, git, deadline).apply(std::move(edits));
}

}  // namespace agentvm::sync
