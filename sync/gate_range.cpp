#include "sync/gate_range.hpp"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>

#include <fmt/format.h>
#include <unistd.h>

#include "sync/refs.hpp"
#include "vmm/base/digest.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/json.hpp"
#include "vmm/base/log.hpp"

namespace agentvm::sync {
namespace {

constexpr std::size_t content_limit_bytes = 64u << 10;  ///< of a file that an excerpt is taken from
constexpr std::size_t excerpt_lines = 3, excerpt_line_bytes = 160;
constexpr std::size_t link_limit_bytes = 4096;  ///< PATH_MAX
constexpr std::size_t shown_limit_bytes = 256u << 20;

/// ":100644 100755 <old> <new> M" NUL "path" NUL ...
std::vector<IncomingFile> changed_files(const HostGit& git, const std::string& base, const std::string& tip,
                                        Deadline deadline) {
  std::vector<IncomingFile> files;
  const auto fields = split_nul(
      git.output({"diff-tree", "-r", "-z", "--raw", "--no-abbrev", "--no-renames", "--no-ext-diff", "--no-textconv",
                  "--ignore-submodules=none", "--diff-filter=AMT", base.empty() ? empty_tree : base, tip},
                 deadline));
  constexpr std::size_t head_bytes = 1 + 6 + 1 + 6 + 1 + oid_hex_length + 1 + oid_hex_length;
  for (std::size_t i = 0; i + 1 < fields.size(); i += 2) {
    const auto& head = fields[i];
    if (head.size() < head_bytes || head[0] != ':')
      throw Error(ErrorCode::operation_failed, "git listed the incoming changes in an unknown form");
    IncomingFile file;
    file.path = fields[i + 1];
    file.old_mode = static_cast<unsigned>(std::strtoul(head.c_str() + 1, nullptr, 8));
    file.new_mode = static_cast<unsigned>(std::strtoul(head.c_str() + 8, nullptr, 8));
    file.old_oid = head.substr(15, oid_hex_length);
    file.new_oid = head.substr(16 + oid_hex_length, oid_hex_length);
    files.push_back(std::move(file));
  }
  return files;
}

/// Contents of those of `wanted` that are at most `limit_bytes` long.
std::map<std::string, std::string> read_blobs(const HostGit& git, const std::set<std::string>& wanted,
                                              std::size_t limit_bytes, Deadline deadline) {
  std::string questions, small;
  for (const auto& oid : wanted) questions += oid + "\n";
  if (questions.empty()) return {};
  for (const auto& line : split_lines(
           git.output({"cat-file", "--batch-check=%(objectname) %(objecttype) %(objectsize)"}, deadline, questions))) {
    constexpr std::size_t size_at = oid_hex_length + 6;
    if (line.size() > size_at && line.substr(oid_hex_length, 6) == " blob " &&
        std::strtoull(line.c_str() + size_at, nullptr, 10) <= limit_bytes)
      small += line.substr(0, oid_hex_length) + "\n";
  }
  std::map<std::string, std::string> contents;
  if (small.empty()) return contents;
  const auto answer = git.output({"cat-file", "--batch=%(objectname) %(objectsize)"}, deadline, small);
  for (std::size_t at = 0; at < answer.size();) {
    const auto end = answer.find('\n', at);
    if (end == std::string::npos || end < at + oid_hex_length) break;
    const auto size = std::strtoull(answer.c_str() + at + oid_hex_length, nullptr, 10);
    contents.emplace(answer.substr(at, oid_hex_length), answer.substr(end + 1, size));
    at = end + 1 + size + 1;
  }
  return contents;
}

/// The first lines that the old file does not have.
std::string changed_lines(const std::string& before, const std::string& after) {
  if (after.find('\0') != std::string::npos) return "(binary)";
  std::set<std::string> known;
  for (auto& line : split_lines(before)) known.insert(std::move(line));
  std::string text;
  std::size_t count = 0;
  for (const auto& line : split_lines(after)) {
    if (known.contains(line) || line.find_first_not_of(" \t\r") == std::string::npos) continue;
    text += (count ? "\n" : "") + line.substr(0, excerpt_line_bytes);
    if (++count == excerpt_lines) break;
  }
  return text;
}

std::string excerpt_of(const IncomingFile& file, const std::map<std::string, std::string>& contents) {
  if (file.new_mode == mode_submodule) return "commit " + file.new_oid;
  if (file.new_mode == mode_link) return "-> " + file.link_target.value_or("(too long)");
  const auto after = contents.find(file.new_oid), before = contents.find(file.old_oid);
  if (after == contents.end()) return "(too large to show)";
  return changed_lines(before == contents.end() ? "" : before->second, after->second);
}

std::string entry_of(const IncomingFile& file) {
  return fmt::format("{:06o} {} {}", file.new_mode, file.new_oid, file.path);
}

}  // namespace

GateFindings search_range(const HostGit& git, const std::string& base, const std::string& tip, const GatePolicy& policy,
                          const GateEntries& seen, Deadline deadline) {
  auto files = changed_files(git, base, tip, deadline);
  std::set<std::string> links;
  for (const auto& file : files)
    if (file.new_mode == mode_link) links.insert(file.new_oid);
  const auto targets = read_blobs(git, links, link_limit_bytes, deadline);
  GateFindings findings;
  struct Gated {
    const IncomingFile* file;
    std::string kind, entry;
  };
  std::vector<Gated> fresh, known;  // at most gate_listed_limit of each
  for (auto& file : files) {
    if (const auto target = targets.find(file.new_oid); file.new_mode == mode_link && target != targets.end())
      file.link_target = target->second;
    auto kind = gate_kind(file, policy);
    if (!kind) continue;
    auto entry = sha256_hex(entry_of(file));
    findings.entries.insert(entry);
    auto& group = seen.contains(entry) ? known : fresh;
    if (group.size() < gate_listed_limit) group.push_back({&file, std::move(*kind), std::move(entry)});
  }
  auto& gated = fresh;
  for (auto& each : known)
    if (gated.size() < gate_listed_limit) gated.push_back(std::move(each));
  std::sort(gated.begin(), gated.end(), [](const Gated& a, const Gated& b) { return a.file->path < b.file->path; });
  std::set<std::string> wanted;
  for (const auto& [file, kind, entry] : gated) {
    if (file->new_mode == mode_link || file->new_mode == mode_submodule) continue;
    wanted.insert(file->new_oid);
    if (file->old_mode != 0) wanted.insert(file->old_oid);
  }
  const auto contents = read_blobs(git, wanted, content_limit_bytes, deadline);
  for (const auto& [file, kind, entry] : gated) {
    findings.listed.push_back({file->path, kind, excerpt_of(*file, contents)});
    findings.listed_entries.insert(entry);
  }
  return findings;
}

ShownGate::ShownGate(const fs::path& folder, const std::string& subject)
    : file_(folder / "gate-shown.json"), subject_(sha256_hex(subject)) {
  try {
    const auto text = read_file_if_exists(file_, shown_limit_bytes);
    const auto shown = text ? parse_json(*text, file_.string()) : Json::object();
    if (value_or<std::string>(shown, "subject", "") == subject_) seen_ = require<GateEntries>(shown, "entries");
  } catch (const Error& error) {  // another version's, or damaged: then nothing was shown
    log::warn("sync", "{}", error.what());
  }
}

std::optional<std::string> ShownGate::refuse(const GateFindings& findings, const GateQuestion& question) {
  GateEntries known, unseen;
  for (const auto& entry : findings.entries) (seen_.contains(entry) ? known : unseen).insert(entry);
  if (unseen.empty() && (question.accept || findings.entries.empty())) {
    if (question.accept && !question.dry_run) ::unlink(file_.c_str());
    return std::nullopt;
  }
  if (question.listed) {
    known.insert(findings.listed_entries.begin(), findings.listed_entries.end());
    write_file_atomic(file_, dump_json({{"subject", subject_}, {"entries", known}}));
  }
  const auto count = question.accept ? unseen.size() : findings.entries.size();
  if (question.accept && !seen_.empty()) return fmt::format("{} of these were not listed when you were asked", count);
  return fmt::format("{} file{} may run or steer something on your host", count, count == 1 ? "" : "s");
}

}  // namespace agentvm::sync
