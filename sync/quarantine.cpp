#include "sync/quarantine.hpp"

#include <csignal>
#include <set>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sync/land.hpp"
#include "sync/ref_writer.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::sync {
namespace {

constexpr std::string_view folder_prefix = "quarantine-";
constexpr std::size_t verdict_limit_bytes = 64u << 20;
constexpr std::size_t remarks_limit_bytes = 4096;

/// Commits of all references, this sandbox's own first. Returns how many are its own.
std::size_t write_haves(const fs::path& file, const HostRepository& host, const std::string& mirror_prefix,
                        Deadline deadline) {
  std::vector<std::string> own, others;
  std::set<std::string> seen;
  const auto listing = HostGit(host.worktree)
                           .output({"for-each-ref", "--sort=-committerdate",
                                    "--format=%(objecttype) %(objectname) %(*objecttype) %(*objectname) %(refname)"},
                                   deadline);
  for (const auto& line : split_lines(listing)) {
    // "commit ID   refs/..." or "tag ID commit ID refs/..."
    std::vector<std::string> words;
    for (std::size_t start = 0; start <= line.size();) {
      const auto end = std::min(line.find(' ', start), line.size());
      words.push_back(line.substr(start, end - start));
      start = end + 1;
    }
    if (words.size() < 5) continue;
    const auto& oid = words[0] == "commit" ? words[1] : words[2] == "commit" ? words[3] : "";
    if (!is_oid(oid) || !seen.insert(oid).second) continue;
    (words[4].starts_with(mirror_prefix) ? own : others).push_back(oid);
  }
  if (!host.head.empty() && seen.insert(host.head).second) others.insert(others.begin(), host.head);
  std::string text;
  for (const auto& oid : own) text += oid + "\n";
  for (const auto& oid : others) text += oid + "\n";
  write_file_atomic(file, text);
  return own.size();
}

/// Drains what the guest says on standard error and what the child says on its verdict pipe, until both end or the
/// child is gone.
struct Talk {
  std::string verdict, remarks;
};
Talk listen(Process& child, UniqueFd verdict, UniqueFd remarks, Deadline deadline) {
  Talk talk;
  const auto drain = [](UniqueFd& fd, std::string& into, std::size_t limit) {
    char buffer[16384];
    const ssize_t count = ::read(fd.get(), buffer, sizeof buffer);
    if (count > 0)
      into.append(buffer, std::min(static_cast<std::size_t>(count), limit - std::min(limit, into.size())));
    else if (count == 0 || (errno != EINTR && errno != EAGAIN))
      fd.reset();
  };
  while (verdict) {
    pollfd entries[2] = {{verdict.get(), POLLIN, 0}, {remarks.get(), POLLIN, 0}};
    const int ready = ::poll(entries, 2, deadline.poll_timeout());
    if (ready < 0 && errno != EINTR) throw_errno("poll");
    if (ready <= 0 && deadline.expired()) {
      child.send_signal(SIGKILL);
      throw Error(ErrorCode::timed_out, "fetching from the sandbox did not finish in time", "agentvm status");
    }
    if (ready <= 0) continue;
    if (entries[0].revents) drain(verdict, talk.verdict, verdict_limit_bytes);
    if (remarks && entries[1].revents) drain(remarks, talk.remarks, remarks_limit_bytes);
  }
  return talk;
}

void discard(const fs::path& folder) noexcept {
  try {
    remove_tree(folder);
  } catch (const Error& error) {
    log::warn("sync", "{}", error.what());  // the next sync sweeps it
  }
}

std::string with_remarks(std::string message, const std::string& remarks) {
  if (!remarks.empty())
    message += fmt::format(" (the guest's git said: {})", clean_guest_text(remarks, Newlines::escape, 300));
  return message;
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
      return;
    }
    recover_references(host, deadline);
    sweep_keeps(host);
    if (host.object_dirs.front().string().find('\n') != std::string::npos)
      throw Error(ErrorCode::operation_failed, "the repository's path has a newline in it");
    write_file_atomic(objects() / "info/alternates", host.object_dirs.front().string() + "\n");
    request_.preferred_haves = write_haves(folder_ / haves_file, host, mirror_prefix, deadline);
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
  return converse(streams, guest_path, libexec, deadline);
}

FetchVerdict Quarantine::fetch(guest::Streams& streams, const std::string& guest_path, const fs::path& libexec,
                               const Progress& progress, Deadline deadline) {
  report(progress, "sync-fetch", "fetching from the sandbox");
  request_.list_only = false;
  return converse(streams, guest_path, libexec, deadline);
}

FetchVerdict Quarantine::converse(guest::Streams& streams, const std::string& guest_path, const fs::path& libexec,
                                  Deadline deadline) {
  write_file_atomic(folder_ / request_file, dump_json(to_json(request_)));
  deadline = deadline.sooner(Deadline::after(std::chrono::seconds(limits_.seconds + 2)));
  guest::ExecSpec spec;
  // libgit2's era: protocol v0. A GIT_PROTOCOL from the guest's login environment would change the answer's form.
  spec.argv = {"env", "-u", "GIT_PROTOCOL", "git-upload-pack", guest_path};
  spec.workdir = "/";
  auto exec = streams.exec(spec, deadline);
  const auto io = exec->take_io();
  auto remarks = exec->take_err();
  if (remarks) set_nonblocking(remarks.get(), true);
  auto verdict_pipe = make_pipe();
  ProcessSpec child_spec;
  child_spec.argv = {(libexec / "agentvm-git").string(), "fetch"};
  child_spec.env =
      std::map<std::string, std::string>{{"LC_ALL", "C"}, {"HOME", "/nonexistent"}, {"PATH", "/nonexistent"}};
  child_spec.cwd = folder_.string();
  child_spec.fds = {{0, io.get()}, {1, io.get()}, {verdict_fd, verdict_pipe.second.get()}};
  child_spec.die_with_parent = true;
  auto child = Process::spawn(child_spec);
  verdict_pipe.second.reset();
  const auto talk = listen(child, std::move(verdict_pipe.first), std::move(remarks), deadline);
  const auto status = child.wait(Deadline::after(std::chrono::seconds(5)));
  if (!status) child.terminate(milliseconds(0));
  if (talk.verdict.empty()) {
    const auto how = status ? status->describe() : "it did not end";
    // The pack is written through a mapping: where no block can be had for it, the kernel says so by this signal.
    if (status && status->signal == SIGBUS)
      throw Error(
          ErrorCode::operation_failed,
          fmt::format("there is no space left for what the sandbox sent, in {}", folder_.parent_path().string()),
          fmt::format("df -h {}", folder_.parent_path().string()));
    throw Error(ErrorCode::operation_failed,
                with_remarks(fmt::format("the fetch ended without a verdict: {}", how), talk.remarks), "agentvm sync");
  }
  try {
    return verdict_from_json(parse_json(talk.verdict, "the verdict of agentvm-git"));
  } catch (Error& error) {
    throw Error(error.code(), with_remarks(error.message(), talk.remarks), error.hint());
  }
}

}  // namespace agentvm::sync
