#include "guest/image/wire.hpp"

#include <csignal>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest/image/bootstrap.hpp"
#include "guest/image/follow.hpp"
#include "vmm/base/files.hpp"

namespace agentvm {
namespace {

void print_line(int fd, const Json& line) {
  try {
    write_all(fd, dump_json(line) + "\n", Deadline::after(std::chrono::seconds(10)));
  } catch (const Error&) {
    // Whoever listened is gone; the build itself goes on or is killed with them.
  }
}

[[noreturn]] void rethrow(const Json& error) {
  throw Error(error_code_from(value_or<std::string>(error, "code", "")),
              value_or<std::string>(error, "message", "the image build failed"),
              value_or<std::string>(error, "hint", ""));
}

/// One line; true when it was the result.
bool take_line(std::string_view text, const Progress& progress, Json& result) {
  const auto line = parse_json(text, "a line of the image build");
  if (line.contains("error")) rethrow(line["error"]);
  if (line.contains("result")) {
    result = line["result"];
    return true;
  }
  report(progress, value_or<std::string>(line, "step", "image"), value_or<std::string>(line, "text", ""),
         value_or<int>(line, "percent", -1));
  return false;
}

}  // namespace

Progress progress_lines(int fd) {
  return [fd](const ProgressEvent& event) {
    print_line(fd, Json{{"step", event.step}, {"text", event.text}, {"percent", event.percent}});
  };
}

void print_result(int fd, const Json& result) {
  print_line(fd, Json{{"result", result}});
}

void print_error(int fd, const Error& error) {
  print_line(fd,
             Json{{"error", {{"code", to_string(error.code())}, {"message", error.what()}, {"hint", error.hint()}}}});
}

int run_program(const std::function<int()>& work) {
  try {
    return work();
  } catch (const Error& error) {
    print_error(STDOUT_FILENO, error);
    return exit_code(error.code());
  } catch (const std::exception& error) {
    print_error(STDOUT_FILENO, Error(ErrorCode::operation_failed, error.what()));
    return exit_code(ErrorCode::operation_failed);
  }
}

Json relay(ProcessSpec spec, const fs::path& log, const Progress& progress, Deadline deadline,
           const std::stop_token& stop, const std::string& what) {
  auto output = make_pipe();
  const auto errors = open_file(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  spec.fds[1] = output.second.get();
  spec.fds[2] = errors.get();
  spec.die_with_parent = true;
  auto child = Process::spawn(spec);
  output.second.reset();
  // By descriptor: whoever asks to stop is on another thread, and the pid may be another process's by then.
  const std::stop_callback on_stop(
      stop, [pidfd = duplicate(child.pidfd())] { ::syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0); });
  Json result;
  bool done = false;
  const auto status = follow_lines(child, output.first.get(), deadline, what,
                                   [&](std::string_view line) { done = take_line(line, progress, result) || done; });
  if (status.ok() && done) return result;
  if (stop.stop_requested()) throw Error(ErrorCode::cancelled, what + " was cancelled", "agentvm image build");
  throw explain_failure(read_tail(log, 64 << 10), what + " ended with " + status.describe(), log);
}

}  // namespace agentvm
