// A seeded folder's way into a guest that has its own disk: one tar stream, pushed by the host, counted on arrival.
#include <cstdlib>

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sync/seed/tree_writer.hpp"
#include "sync/workspace.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/process.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::sync {
namespace {

// Counts the names tar lists (it quotes newlines in them), so that the disk's own lost+found does not matter.
constexpr const char* unpack_script =
    "set -e; list=$(mktemp); trap 'rm -f \"$list\"' EXIT; tar --extract --preserve-permissions --no-same-owner "
    "--quoting-style=escape --verbose "
    "--index-file=\"$list\" --file=- --directory=\"$1\"; wc -l <\"$list\"";

/// What comes until the other side ends; a reset is an end, too: the exit status tells the rest.
std::string drain_until_end(int fd, std::size_t limit, Deadline deadline) {
  std::string text;
  char buffer[4096];
  try {
    while (const auto count = read_some(fd, buffer, sizeof buffer, deadline))
      text.append(buffer, std::min(count, limit - std::min(limit, text.size())));
  } catch (const Error& error) {
    if (error.code() == ErrorCode::timed_out) throw;
  }
  return text;
}

}  // namespace

std::uint64_t stream_workspace(const fs::path& seeded, guest::Streams& streams, const std::string& guest_path,
                               const Progress& progress, Deadline deadline) {
  const auto expected = count_entries(seeded) + 1;  // tar lists the folder itself, too
  report(progress, "workspace-send", fmt::format("sending {} files into the sandbox", expected - 1));
  guest::ExecSpec spec;
  spec.argv = {"sh", "-c", unpack_script, "unpack", guest_path};
  spec.workdir = "/";
  auto exec = streams.exec(spec, deadline);
  const auto io = exec->take_io();
  const auto err = exec->take_err();
  ProcessSpec tar;
  tar.argv = {"tar", "--create", "--file=-", "--numeric-owner", "--directory=" + seeded.string(), "."};
  tar.env = std::map<std::string, std::string>{{"LC_ALL", "C"}, {"PATH", "/usr/bin:/bin"}};
  tar.fds = {{1, io.get()}};
  tar.die_with_parent = true;
  auto process = Process::spawn(tar);
  const auto sent = process.wait(deadline);
  if (!sent) throw Error(ErrorCode::timed_out, "sending the workspace into the sandbox did not finish in time");
  ::shutdown(io.get(), SHUT_WR);
  const auto count = drain_until_end(io.get(), 64, deadline);
  const auto words = err ? drain_until_end(err.get(), 2000, deadline) : "";
  const auto status = exec->wait(deadline);
  if (!status) throw Error(ErrorCode::timed_out, "the sandbox did not finish unpacking its workspace in time");
  if (!sent->ok() || status->kind != guest::GuestStatus::Kind::exited || status->code != 0)
    throw Error(ErrorCode::operation_failed,
                fmt::format("the workspace did not arrive in the sandbox: {}",
                            clean_guest_text(words.empty() ? sent->describe() : words, Newlines::escape, 300)));
  const auto arrived = std::strtoull(count.c_str(), nullptr, 10);
  if (arrived != expected)
    throw Error(ErrorCode::operation_failed, fmt::format("{} of {} files arrived in the sandbox", arrived, expected));
  return expected - 1;
}

}  // namespace agentvm::sync
