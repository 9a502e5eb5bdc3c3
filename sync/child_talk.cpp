#include "sync/child_talk.hpp"

#include <csignal>

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include "sync/verdict.hpp"
#include "vmm/base/process.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::sync {
namespace {

constexpr std::size_t verdict_limit_bytes = 64u << 20;
constexpr std::size_t remarks_limit_bytes = 4096;

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
    if (count > 0 && into.size() < limit)
      into += std::string_view(buffer, static_cast<std::size_t>(count)).substr(0, limit - into.size());
    if (count == 0 || (count < 0 && errno != EINTR && errno != EAGAIN)) fd.reset();
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

std::string with_remarks(std::string message, const std::string& remarks) {
  if (!remarks.empty())
    message += fmt::format(" (the guest's git said: {})", clean_guest_text(remarks, Newlines::escape, 300));
  return message;
}

/// The child said nothing: what its end tells.
[[noreturn]] void fail_without_verdict(const Conversation& conversation, const std::optional<ExitStatus>& status,
                                       const std::string& remarks) {
  // The pack is written through a mapping: where no block can be had for it, the kernel says so by this signal.
  if (status && status->signal == SIGBUS) {
    const auto where = conversation.folder.parent_path().string();
    throw Error(ErrorCode::operation_failed,
                fmt::format("there is no space left for what the sandbox sent, in {}", where),
                fmt::format("df -h {}", where));
  }
  const auto how = status ? status->describe() : "it did not end";
  throw Error(ErrorCode::operation_failed,
              with_remarks(fmt::format("the {} ended without a verdict: {}", conversation.mode, how), remarks),
              "agentvm sync");
}

Json run_child(UniqueFd io, UniqueFd remarks, const Conversation& conversation, const fs::path& libexec,
               Deadline deadline) {
  if (remarks) set_nonblocking(remarks.get(), true);
  auto verdict_pipe = make_pipe();
  ProcessSpec child_spec;
  child_spec.argv = {(libexec / "agentvm-git").string(), conversation.mode};
  child_spec.env =
      std::map<std::string, std::string>{{"LC_ALL", "C"}, {"HOME", "/nonexistent"}, {"PATH", "/nonexistent"}};
  child_spec.cwd = conversation.folder.string();
  child_spec.fds = conversation.fds;
  child_spec.fds[0] = child_spec.fds[1] = io.get();
  child_spec.fds[verdict_fd] = verdict_pipe.second.get();
  child_spec.die_with_parent = true;
  auto child = Process::spawn(child_spec);
  verdict_pipe.second.reset();
  io.reset();
  const auto talk = listen(child, std::move(verdict_pipe.first), std::move(remarks), deadline);
  const auto status = child.wait(Deadline::after(std::chrono::seconds(5)));
  if (!status) child.terminate(milliseconds(0));
  if (talk.verdict.empty()) fail_without_verdict(conversation, status, talk.remarks);
  try {
    auto verdict = parse_json(talk.verdict, "the verdict of agentvm-git");
    throw_refusal(verdict);
    return verdict;
  } catch (Error& error) {
    throw Error(error.code(), with_remarks(error.message(), talk.remarks), error.hint());
  }
}

}  // namespace

Json converse(guest::Streams& streams, const Conversation& conversation, const fs::path& libexec, Deadline deadline) {
  guest::ExecSpec spec;
  spec.argv = conversation.guest_argv;
  spec.workdir = std::string("/");
  auto exec = streams.exec(spec, deadline);
  auto io = exec->take_io();
  return run_child(std::move(io), exec->take_err(), conversation, libexec, deadline);
}

Json converse(UniqueFd io, const Conversation& conversation, const fs::path& libexec, Deadline deadline) {
  return run_child(std::move(io), UniqueFd(), conversation, libexec, deadline);
}

}  // namespace agentvm::sync
