#include "sync/quarantine.hpp"

#include <set>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "sync/child_talk.hpp"
#include "sync/land.hpp"
#include "sync/loose_relay.hpp"
#include "sync/ref_writer.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"

namespace agentvm::sync {
namespace {

constexpr std::string_view folder_prefix = "quarantine-";
constexpr milliseconds loose_limit{10'000};

/// Commits of all references, this sandbox's own first, and the tags that are here: the user's, and this sandbox's.
/// Returns how many commits are its own.
std::size_t write_haves(const fs::path& folder, const HostRepository& host, const std::string& mirror_prefix) {
  std::vector<std::string> own, others;
  std::string tags;
  std::set<std::string> seen;
  const auto own_tags = mirror_prefix + std::string(mirrored_tag_prefix);
  for (const auto& ref : host.refs) {
    for (const std::string_view prefix : {tag_prefix, std::string_view(own_tags)})
      if (ref.name.starts_with(prefix)) tags += ref.oid + " " + ref.name.substr(prefix.size()) + "\n";
    if (is_oid(ref.commit) && seen.insert(ref.commit).second)
      (ref.name.starts_with(mirror_prefix) ? own : others).push_back(ref.commit);
  }
  if (!host.head.empty() && seen.insert(host.head).second) others.insert(others.begin(), host.head);
  std::string text;
  for (const auto& oid : own) text += oid + "\n";
  for (const auto& oid : others) text += oid + "\n";
  write_file_atomic(folder / haves_file, text);
  write_file_atomic(folder / tags_file, tags);
  return own.size();
}

void discard(const fs::path& folder) noexcept {
  try {
    remove_tree(folder);
  } catch (const Error& error) {
    log::warn("sync", "{}", error.what());  // the next sync sweeps it
  }
}

}  // namespace

void sweep_quarantines(const fs::path& scratch) {
  std::error_code problem;
  for (const auto& entry : fs::directory_iterator(scratch, problem))
    if (entry.path().filename().string().starts_with(folder_prefix)) remove_tree(entry.path());
}

Quarantine::Quarantine(const fs::path& scratch, const HostRepository& host, const std::string& mirror_prefix,
                       const SyncLimits& limits, Deadline deadline)
    : limits_(limits) {
  ensure_private_dir(scratch);
  sweep_quarantines(scratch);
  folder_ = fs::canonical(scratch) / (std::string(folder_prefix) + random_hex(8));
  try {
    ensure_private_dir(folder_);
    ensure_private_dir(objects() / "info");
    ensure_private_dir(objects() / "pack");
    request_.limits = limits;
    for (const auto& dir : host.object_dirs) request_.object_dirs.push_back(dir.string());
    if (host.object_dirs.empty()) {
      write_file_atomic(folder_ / haves_file, "");
      write_file_atomic(folder_ / tags_file, "");
      return;
    }
    recover_references(host, deadline);
    sweep_keeps(host);
    if (host.object_dirs.front().string().find('\n') != std::string::npos)
      throw Error(ErrorCode::operation_failed, "the repository's path has a newline in it");
    write_file_atomic(objects() / "info/alternates", host.object_dirs.front().string() + "\n");
    request_.preferred_haves = write_haves(folder_, host, mirror_prefix);
  } catch (...) {
    discard(folder_);
    throw;
  }
}

Quarantine::~Quarantine() {
  discard(folder_);
}

FetchVerdict Quarantine::list(guest::Streams& streams, const std::string& guest_path, const fs::path& libexec,
                              const Progress& progress, Deadline deadline) {
  report(progress, "sync-fetch", "asking the sandbox for its branches");
  request_.list_only = true;
  request_.tags = false;
  request_.detached_head = true;
  return converse(streams, guest_path, libexec, deadline);
}

FetchVerdict Quarantine::fetch(guest::Streams& streams, const std::string& guest_path, const fs::path& libexec,
                               Beside beside, const Progress& progress, Deadline deadline) {
  report(progress, "sync-fetch", "fetching from the sandbox");
  request_.list_only = false;
  request_.tags = beside == Beside::tags;
  request_.detached_head = beside == Beside::detached_head;
  return converse(streams, guest_path, libexec, deadline);
}

std::optional<FetchVerdict> Quarantine::fetch_loose(const LooseSource& source, const fs::path& libexec,
                                                    const Progress& progress, Deadline deadline) {
  report(progress, "sync-fetch", "fetching from the sandbox");
  try {
    deadline = deadline.sooner(Deadline::after(loose_limit));
    const auto references = source.references(deadline);
    if (!references) return std::nullopt;
    request_.list_only = request_.detached_head = false;
    request_.loose = request_.tags = true;
    deadline = write_request(deadline);
    request_.loose = false;
    LooseRelay relay(source, *references, deadline);
    return verdict_from_json(sync::converse(relay.take_io(), {{}, "fetch", folder_, {}}, libexec, deadline));
  } catch (const Error& error) {
    log::debug("sync", "{}", error.what());
  }
  remove_tree(objects() / "pack");  // git is asked what it would be asked without this
  ensure_private_dir(objects() / "pack");
  return std::nullopt;
}

Deadline Quarantine::write_request(Deadline deadline) const {
  write_file_atomic(folder_ / request_file, dump_json(to_json(request_)));
  return deadline.sooner(Deadline::after(std::chrono::seconds(limits_.seconds + 2)));
}

FetchVerdict Quarantine::converse(guest::Streams& streams, const std::string& guest_path, const fs::path& libexec,
                                  Deadline deadline) {
  deadline = write_request(deadline);
  // libgit2's era: protocol v0. A GIT_PROTOCOL from the guest's login environment would change the answer's form.
  return verdict_from_json(
      sync::converse(streams, {{"env", "-u", "GIT_PROTOCOL", "git-upload-pack", guest_path}, "fetch", folder_, {}},
                     libexec, deadline));
}

}  // namespace agentvm::sync
