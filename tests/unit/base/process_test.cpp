#include "vmm/base/process.hpp"

#include <csignal>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/temporary_folder.hpp"

namespace agentvm {
namespace {

using test::error_of;
using testing::HasSubstr;

Deadline soon() {
  return Deadline::after(std::chrono::seconds(20));
}
RunResult shell(const std::string& script) {
  return run({.argv = {"sh", "-c", script}}, soon());
}

TEST(Process, CodesAndSignalsAreToldApart) {
  EXPECT_TRUE(shell("exit 0").status.ok());
  EXPECT_EQ(shell("exit 3").status.code, 3);
  EXPECT_EQ(shell("exit 3").status.describe(), "exit status 3");
  EXPECT_EQ(shell("kill -9 $$").status.signal, SIGKILL);
  EXPECT_THAT(shell("kill -9 $$").status.describe(), HasSubstr("signal 9"));
}

TEST(Process, MissingProgramsAreNamed) {
  for (const auto* name : {"no-such-program-here", "/no/such/program", "/etc/passwd"}) {
    const auto error = error_of([&] { Process::spawn({.argv = {name}}); });
    ASSERT_TRUE(error) << name;
    EXPECT_EQ(error->code(), ErrorCode::host_lacks);
    EXPECT_THAT(error->message(), HasSubstr(name));
  }
  EXPECT_EQ(error_of([] { Process::spawn({}); })->code(), ErrorCode::usage);
  EXPECT_THAT(error_of([] { Process::spawn({.argv = {"true"}, .cwd = "/no/such/folder"}); })->message(),
              HasSubstr("/true in /no/such/folder: No such file"));
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "a child that could not be executed is reaped";
}

TEST(Process, NothingIsInheritedButWhatIsNamed) {
  const UniqueFd leak(::open("/dev/null", O_RDONLY));  // no close-on-exec, on purpose
  ASSERT_GE(::fcntl(leak.get(), F_DUPFD, 200), 200);
  const auto result = shell("ls /proc/$$/fd");
  EXPECT_EQ(result.out, "0\n1\n2\n");
  ::close(200);
}

TEST(Process, DescriptorsLandWhereTheyAreMappedEvenCrosswise) {
  auto one = make_pipe(), two = make_pipe();
  // Targets are chosen to collide with the sources' own numbers.
  const int a = one.second.get(), b = two.second.get();
  ProcessSpec spec{.argv = {"sh", "-c", "echo to-a >&\"$0\"; echo to-b >&\"$1\"", std::to_string(b), std::to_string(a)},
                   .fds = {{b, a}, {a, b}}};
  if (a > 9 || b > 9) GTEST_SKIP() << "the shell takes single digits only";
  auto process = Process::spawn(spec);
  EXPECT_TRUE(process.wait(soon())->ok());
  char buffer[16] = {};
  read_some(one.first.get(), buffer, sizeof buffer, soon());
  EXPECT_STREQ(buffer, "to-a\n");
  std::memset(buffer, 0, sizeof buffer);
  read_some(two.first.get(), buffer, sizeof buffer, soon());
  EXPECT_STREQ(buffer, "to-b\n");
}

TEST(Process, EnvironmentFolderAndStandardDescriptors) {
  auto result = run({.argv = {"/usr/bin/env"}, .env = std::map<std::string, std::string>{{"ONLY", "this"}}}, soon());
  EXPECT_EQ(result.out, "ONLY=this\n");
  EXPECT_EQ(run({.argv = {"pwd"}, .cwd = "/usr"}, soon()).out, "/usr\n");
  auto process = Process::spawn(
      {.argv = {"sh", "-c",
                "test \"$(readlink /proc/$$/fd/0)\" = /dev/null && test \"$(readlink /proc/$$/fd/2)\" = /dev/null"}});
  EXPECT_TRUE(process.wait(soon())->ok());
}

TEST(Process, SignalMaskAndHandlersAreReset) {
  sigset_t block, before;
  ::sigemptyset(&block);
  ::sigaddset(&block, SIGTERM);
  ::sigprocmask(SIG_BLOCK, &block, &before);
  ::signal(SIGPIPE, SIG_IGN);
  const auto result = shell("grep -E 'SigBlk|SigIgn' /proc/self/status");
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  EXPECT_EQ(result.out, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

TEST(Process, InChildRunsBeforeTheProgramAndCanAbort) {
  const auto error = error_of([] { Process::spawn({.argv = {"true"}, .in_child = [] { return EPERM; }}); });
  ASSERT_TRUE(error);
  EXPECT_THAT(error->message(), HasSubstr("Operation not permitted"));
  EXPECT_EQ(run({.argv = {"sh", "-c", "umask"},
                 .in_child =
                     [] {
                       ::umask(0027);
                       return 0;
                     }},
                soon())
                .out,
            "0027\n");
}

TEST(Process, RunEndsAtTheDeadlineAndKillsTheChild) {
  const auto start = std::chrono::steady_clock::now();
  const auto error = error_of([] { run({.argv = {"sleep", "30"}}, Deadline::after(milliseconds(100))); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::timed_out);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "no child is left";
  // Closed streams with a living process must end too.
  EXPECT_EQ(error_of([] {
              run({.argv = {"sh", "-c", "exec >/dev/null 2>&1; sleep 30"}}, Deadline::after(milliseconds(100)));
            })->code(),
            ErrorCode::timed_out);
}

TEST(Process, InputAndOutputOfAnySizeDoNotBlockEachOther) {
  const std::string input(3u << 20, 'x');
  const auto result = run({.argv = {"cat"}}, soon(), input);
  EXPECT_EQ(result.out, input);
  const auto capped = run({.argv = {"head", "-c", "1000000", "/dev/zero"}}, soon(), {}, 1000);
  EXPECT_EQ(capped.out.size(), 1000U);
  EXPECT_TRUE(capped.status.ok()) << "the rest is read and dropped, the writer sees no closed pipe";
  ::signal(SIGPIPE, SIG_IGN);
  EXPECT_TRUE(run({.argv = {"true"}}, soon(), input).status.ok()) << "a child that reads nothing is no error";
}

TEST(Process, RunCheckedTellsTheLastLine) {
  const auto error = error_of([] {
    run_checked({.argv = {"sh", "-c", "echo first >&2; echo the reason >&2; exit 4"}}, soon());
  });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->message(), "sh failed (exit status 4): the reason");
}

TEST(Process, TerminateEscalates) {
  auto polite = Process::spawn({.argv = {"sleep", "30"}});
  EXPECT_EQ(polite.terminate(std::chrono::seconds(10)).signal, SIGTERM);
  auto pipe = make_pipe();
  auto stubborn = Process::spawn({.argv = {"sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"},
                                  .fds = {{1, pipe.second.get()}}});
  char byte;
  ASSERT_EQ(read_some(pipe.first.get(), &byte, 1, soon()), 1U);
  EXPECT_EQ(stubborn.terminate(milliseconds(100)).signal, SIGKILL);
  EXPECT_EQ(stubborn.wait(soon())->signal, SIGKILL) << "the status stays";
}

TEST(Process, DestructorKillsAndDetachDoesNot) {
  pid_t pid = 0;
  {
    auto process = Process::spawn({.argv = {"sleep", "30"}});
    pid = process.pid();
  }
  EXPECT_EQ(::kill(pid, 0), -1);
  {
    auto process = Process::spawn({.argv = {"sleep", "30"}});
    pid = process.pid();
    process.detach();
  }
  EXPECT_EQ(::kill(pid, 0), 0);
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
}

TEST(Process, StartTicksTellProcessesApart) {
  EXPECT_GT(process_start_ticks(::getpid()), 0U);
  EXPECT_EQ(process_start_ticks(::getpid()), process_start_ticks(::getpid()));
  EXPECT_EQ(process_start_ticks(0x7ffffff0), 0U);
  // A name with spaces and parentheses must not move the fields.
  const test::TemporaryFolder folder;
  fs::copy_file("/bin/sleep", folder / "a) 1 (b");
  auto process = Process::spawn({.argv = {(folder / "a) 1 (b").string(), "30"}});
  const auto ticks = process_start_ticks(process.pid());
  EXPECT_GE(ticks, process_start_ticks(::getpid()));
  EXPECT_LT(ticks, process_start_ticks(::getpid()) + 1'000'000);
}

TEST(Process, FindProgramLooksBeyondPath) {
  EXPECT_EQ(find_program("sh").front(), '/');
  EXPECT_EQ(find_program("no-such-program-here"), "");
  EXPECT_EQ(find_program("/etc/passwd"), "");
}

}  // namespace
}  // namespace agentvm
