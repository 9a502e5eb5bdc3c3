// exec and attach: bytes, statuses, signals, terminals, and a manager that is lost in the middle.

#include <gmock/gmock.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "tests/contract/cli/home.hpp"
#include "vmm/base/digest.hpp"

namespace agentvm::test {
namespace {

/// The client on a terminal of its own.
class Terminal {
 public:
  Terminal(ProcessSpec spec, unsigned short rows, unsigned short columns)
      : process_(start(std::move(spec), rows, columns)) {}

  void type(const std::string& text) { write_all(controller_.get(), text, Deadline::after(step_limit)); }
  void resize(unsigned short rows, unsigned short columns) {
    const winsize size{rows, columns, 0, 0};
    ::ioctl(controller_.get(), TIOCSWINSZ, &size);
  }
  /// Reads until `text` was shown; what came before it is dropped.
  bool expect(const std::string& text) {
    const auto deadline = Deadline::after(step_limit);
    for (;;) {
      if (const auto at = seen_.find(text); at != std::string::npos) {
        seen_.erase(0, at + text.size());
        return true;
      }
      char buffer[4096];
      try {
        const auto count = read_some(controller_.get(), buffer, sizeof buffer, deadline);
        if (count == 0) return false;
        seen_.append(buffer, count);
      } catch (const Error&) {
        return false;  // EIO: the client has gone; or too late
      }
    }
  }
  bool raw() const {
    termios now{};
    ::tcgetattr(controller_.get(), &now);
    return !(now.c_lflag & ICANON);
  }
  std::optional<ExitStatus> wait() { return process_.wait(Deadline::after(step_limit)); }
  void signal(int number) { process_.send_signal(number); }
  const std::string& seen() const { return seen_; }

 private:
  Process start(ProcessSpec spec, unsigned short rows, unsigned short columns) {
    int controller = -1, terminal = -1;
    const winsize size{rows, columns, 0, 0};
    check_errno(::openpty(&controller, &terminal, nullptr, nullptr, &size), "openpty");
    controller_.reset(controller);
    ::fcntl(controller, F_SETFD, FD_CLOEXEC);
    terminal_.reset(terminal);  // kept open, so that the settings can be read after the client has gone
    spec.fds = {{0, terminal}, {1, terminal}, {2, terminal}};
    spec.new_session = true;
    spec.in_child = [] { return ::ioctl(0, TIOCSCTTY, 0) < 0 ? errno : 0; };
    return Process::spawn(spec);
  }
  UniqueFd controller_, terminal_;
  std::string seen_;
  Process process_;
};

using Exec = ClientTest;
using testing::HasSubstr;

TEST_F(Exec, KeepsStreamsApartAndReturnsTheStatus) {
  const auto result = run({"exec", "one", "--", "sh", "-c", "echo out; echo err >&2; exit 7"});
  EXPECT_EQ(result.status.code, 7);
  EXPECT_EQ(result.out, "out\n");
  EXPECT_EQ(result.err, "err\n");
}

TEST_F(Exec, EveryStatusPassesThrough) {
  for (const int code : {0, 1, 2, 64, 125, 126, 127, 255})
    EXPECT_EQ(run({"exec", "one", "--", "sh", "-c", "exit " + std::to_string(code)}).status.code, code);
  EXPECT_EQ(run({"exec", "one", "--", "sh", "-c", "kill -KILL $$"}).status.code, 137);
}

TEST_F(Exec, OwnFailuresAre125AndSayWhoseTheyAre) {
  const auto result = run({"exec", "nosuch", "--json", "--", "true"});
  EXPECT_EQ(result.status.code, 125);
  const auto error = parse_json(result.out, "error");
  EXPECT_EQ(error["schema"], "agentvm.error/1");
  EXPECT_EQ(error["code"], "not-found");
  EXPECT_EQ(error["exit_code"], 125);
  EXPECT_EQ(error["origin"], "agentvm");
  EXPECT_THAT(result.err, HasSubstr("there is no sandbox 'nosuch'"));
  EXPECT_THAT(result.err, HasSubstr("try: agentvm list"));
}

TEST_F(Exec, JsonCollectsTheOutput) {
  const auto result = run({"exec", "one", "--json", "--", "sh", "-c", "cat; echo e >&2; exit 3"}, "in");
  EXPECT_EQ(result.status.code, 3);
  const auto object = parse_json(result.out, "output");
  EXPECT_EQ(object["origin"], "guest");
  EXPECT_EQ(object["exit_code"], 3);
  EXPECT_EQ(object["stdout"], "in");
  EXPECT_EQ(object["stderr"], "e\n");
  EXPECT_EQ(object["truncated"], false);
}

TEST_F(Exec, BytesPassUnchangedBothWays) {
  std::string bytes;
  bytes.reserve(32u << 20);
  std::uint32_t seed = 1;
  while (bytes.size() < 32u << 20) {
    seed = seed * 1664525 + 1013904223;
    bytes += static_cast<char>(seed >> 24);
  }
  const auto result = run({"exec", "one", "--", "cat"}, bytes);
  EXPECT_TRUE(result.status.ok());
  EXPECT_EQ(sha256_hex(result.out), sha256_hex(bytes));
}

TEST_F(Exec, GibibyteArrivesWhole) {
  ASSERT_TRUE(run({"list"}).status.ok());
  auto shell = spec({});
  // cmp is much cheaper than a digest and as exact.
  const std::string zeros = "head -c 1073741824 /dev/zero";
  shell.argv = {"/bin/bash", "-c",
                "set -o pipefail; " + client() + " exec one -- " + zeros + " | cmp - <(" + zeros + ")"};
  const auto result = agentvm::run(shell, Deadline::after(milliseconds(150'000)));
  EXPECT_TRUE(result.status.ok()) << result.err;
  EXPECT_EQ(result.out + result.err, "");
}

TEST_F(Exec, TailIsNeverLost) {
  for (int i = 0; i < 30; ++i) {
    const auto result = run({"exec", "one", "--", "sh", "-c", "head -c 300000 /dev/zero; echo end; echo last >&2"});
    ASSERT_EQ(result.out.size(), 300004u);
    ASSERT_TRUE(result.out.ends_with("end\n"));
    ASSERT_EQ(result.err, "last\n");
  }
}

TEST_F(Exec, EndOfInputIsPassedOn) {
  EXPECT_EQ(run({"exec", "one", "--", "wc", "-c"}, "four").out, "4\n");
  EXPECT_EQ(run({"exec", "one", "--", "wc", "-c"}).out, "0\n");
}

TEST_F(Exec, InputThatNobodyTakesDoesNotHoldUpTheEnd) {
  auto held = make_pipe();  // never written, never closed
  auto process_spec = spec({"exec", "one", "--", "true"});
  process_spec.fds[0] = held.first.get();
  auto process = Process::spawn(process_spec);
  const auto status = process.wait(Deadline::after(step_limit));
  ASSERT_TRUE(status);
  EXPECT_EQ(status->code, 0);
}

TEST_F(Exec, ClosedReaderEndsBothSides) {
  ASSERT_TRUE(run({"list"}).status.ok());
  auto shell = spec({});
  shell.argv = {"/bin/bash", "-c",
                client() + " exec one -- sh -c 'echo $$; exec yes' | head -n 1; echo ${PIPESTATUS[0]}"};
  const auto result = agentvm::run(shell, Deadline::after(step_limit));
  int pid = 0, status = 0;
  ASSERT_EQ(std::sscanf(result.out.c_str(), "%d %d", &pid, &status), 2) << result.out;
  EXPECT_EQ(status, 141);
  EXPECT_TRUE(eventually([&] { return process_start_ticks(pid) == 0; })) << "the guest process lives on";
}

TEST_F(Exec, FullDiskIsAnError) {
  const auto full = open_file("/dev/full", O_WRONLY);
  auto process_spec = spec({"exec", "one", "--", "echo", "x"});
  process_spec.fds[1] = full.get();
  auto process = Process::spawn(process_spec);
  EXPECT_EQ(process.wait(Deadline::after(step_limit))->code, 125);
}

TEST_F(Exec, SignalsAreForwarded) {
  for (const auto& [name, number] : std::map<std::string, int>{{"INT", SIGINT}, {"TERM", SIGTERM}, {"HUP", SIGHUP}}) {
    auto out = make_pipe();
    auto process_spec = spec({"exec", "one", "--", "sh", "-c",
                              "trap 'echo got; exit 9' " + name + "; echo ready; while :; do sleep 0.05; done"});
    process_spec.fds[1] = out.second.get();
    auto process = Process::spawn(process_spec);
    char buffer[64];
    ASSERT_GT(read_some(out.first.get(), buffer, sizeof buffer, Deadline::after(step_limit)), 0u);
    process.send_signal(number);
    const auto status = process.wait(Deadline::after(step_limit));
    ASSERT_TRUE(status) << name;
    EXPECT_EQ(status->code, 9) << name << ": " << status->describe();
  }
}

TEST_F(Exec, ImpatienceEndsTheClient) {
  auto out = make_pipe();
  auto process_spec = spec({"exec", "one", "--", "sh", "-c", "trap '' INT; echo ready; while :; do sleep 0.05; done"});
  process_spec.fds[1] = out.second.get();
  auto process = Process::spawn(process_spec);
  char buffer[64];
  ASSERT_GT(read_some(out.first.get(), buffer, sizeof buffer, Deadline::after(step_limit)), 0u);
  for (int i = 0; i < 3; ++i) {
    process.send_signal(SIGINT);
    std::this_thread::sleep_for(milliseconds(50));
  }
  const auto status = process.wait(Deadline::after(step_limit));
  ASSERT_TRUE(status);
  EXPECT_EQ(status->code, 130);
}

TEST_F(Exec, LostManagerIs125AndSaysSo) {
  ASSERT_TRUE(run({"list"}).status.ok());
  const int manager = manager_pid();
  auto out = make_pipe(), err = make_pipe();
  // The guest process belongs to the fake; with it gone its output ends too.
  auto process_spec = spec({"exec", "one", "--no-tty", "--", "sh", "-c", "echo ready; exec sleep 600"});
  process_spec.fds[1] = out.second.get();
  process_spec.fds[2] = err.second.get();
  auto process = Process::spawn(process_spec);
  // Only what has come through shows that the client is past the point up to which it would begin once more.
  char word[16];
  ASSERT_GT(read_some(out.first.get(), word, sizeof word, Deadline::after(step_limit)), 0U);
  ::kill(manager, SIGKILL);
  out.second.reset();
  err.second.reset();
  const auto status = process.wait(Deadline::after(step_limit));
  ASSERT_TRUE(status);
  EXPECT_EQ(status->code, 125);
  char buffer[4096];
  const auto count = read_some(err.first.get(), buffer, sizeof buffer, Deadline::after(step_limit));
  EXPECT_THAT(std::string(buffer, count), HasSubstr("the state of the guest process is unknown"));
}

TEST_F(Exec, EnvironmentIsAddedAndPassedOn) {
  EXPECT_EQ(run({"exec", "one", "-e", "A=b=c", "--env", "TERM", "--", "sh", "-c", "echo $A $TERM"}).out, "b=c xterm\n");
  EXPECT_EQ(run({"exec", "one", "-e", "SURELY_NOT_SET", "--", "true"}).status.code, 64);
}

TEST_F(Exec, TerminalIsRawSizedFollowedAndPutBack) {
  Terminal terminal(spec({"exec", "one", "--", "sh", "-c",
                          "tty; stty size; trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done"}),
                    33, 101);
  ASSERT_TRUE(terminal.expect("/dev/pts/"));
  EXPECT_TRUE(terminal.expect("33 101"));
  ASSERT_TRUE(terminal.expect("ready"));
  EXPECT_TRUE(terminal.raw());
  terminal.resize(20, 60);
  EXPECT_TRUE(terminal.expect("20 60"));
  terminal.type("\x03");  // Ctrl-C is a byte for the guest
  const auto status = terminal.wait();
  ASSERT_TRUE(status);
  EXPECT_EQ(status->code, 130);
  EXPECT_FALSE(terminal.raw());
}

TEST_F(Exec, TerminalIsPutBackWhenWeAreEnded) {
  for (const int number : {SIGTERM, SIGHUP, SIGSEGV}) {
    Terminal terminal(spec({"exec", "one", "--", "sh", "-c", "echo ready; sleep 600"}), 24, 80);
    ASSERT_TRUE(terminal.expect("ready"));
    ASSERT_TRUE(terminal.raw());
    terminal.signal(number);
    const auto status = terminal.wait();
    ASSERT_TRUE(status);
    EXPECT_TRUE(number == SIGSEGV ? status->signal == SIGSEGV : status->code == 128 + number) << status->describe();
    EXPECT_FALSE(terminal.raw()) << number;
  }
}

TEST_F(Exec, AttachComesBackAfterTheManagerWasKilled) {
  Terminal terminal(spec({"attach", "one"}), 24, 80);
  ASSERT_TRUE(terminal.expect("attached"));
  terminal.type("x\r");
  ASSERT_TRUE(terminal.expect("got x"));
  ::kill(manager_pid(), SIGKILL);
  EXPECT_TRUE(terminal.expect("attaching again"));
  ASSERT_TRUE(terminal.expect("attached"));
  terminal.type("bye\r");
  const auto status = terminal.wait();
  ASSERT_TRUE(status);
  EXPECT_EQ(status->code, 0) << terminal.seen();
  EXPECT_FALSE(terminal.raw());
}

TEST_F(Exec, AttachSurvivesTheHandOverToAnotherBuild) {
  Terminal terminal(spec({"attach", "one"}), 24, 80);
  ASSERT_TRUE(terminal.expect("attached"));
  const auto program = prefix() / "libexec/agentvm/agentvm-manager";
  std::filesystem::copy_file(program, program.string() + ".new");
  std::filesystem::rename(program.string() + ".new", program);
  EXPECT_TRUE(run({"list"}).status.ok());
  EXPECT_TRUE(terminal.expect("attaching again"));
  ASSERT_TRUE(terminal.expect("attached"));
  terminal.type("bye\r");
  EXPECT_EQ(terminal.wait()->code, 0);
}

TEST_F(Exec, AttachNeedsATerminal) {
  EXPECT_EQ(run({"attach", "one"}).status.code, 64);
}

TEST_F(Exec, StartAttachesOnATerminalAndItsStatusIsTheStarts) {
  Terminal terminal(spec({"start", "running"}), 24, 80);
  ASSERT_TRUE(terminal.expect("attached"));
  terminal.type("bye\r");
  EXPECT_EQ(terminal.wait()->code, 0);
}

}  // namespace
}  // namespace agentvm::test
