// Processes in a "guest" that is a real sshd on loopback.
#include <cstdlib>
#include <filesystem>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/contract/ssh/sshd.hpp"
#include "vmm/base/error.hpp"

namespace agentvm::guest {
namespace {

using Kind = GuestStatus::Kind;
using testing::HasSubstr;

Deadline soon() {
  return Deadline::after(milliseconds(15'000));
}

class ExecTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    sshd_ = new Sshd();
    streams_ = connect(*sshd_).release();
  }
  static void TearDownTestSuite() {
    delete streams_;
    delete sshd_;
  }
  std::unique_ptr<Exec> sh(const std::string& script) { return streams_->exec({.argv = {"sh", "-c", script}}, soon()); }
  static Sshd* sshd_;
  static Streams* streams_;
};
Sshd* ExecTest::sshd_ = nullptr;
Streams* ExecTest::streams_ = nullptr;

TEST_F(ExecTest, OutputAndErrorsAreSeparate) {
  const auto exec = sh("echo out; echo err >&2");
  const UniqueFd io = exec->take_io(), err = exec->take_err();
  EXPECT_EQ(read_to_end(io.get(), soon()), "out\n");
  EXPECT_EQ(read_to_end(err.get(), soon()), "err\n");
  const auto status = exec->wait(soon());
  ASSERT_TRUE(status);
  EXPECT_EQ(status->kind, Kind::exited);
  EXPECT_EQ(status->code, 0);
  EXPECT_FALSE(exec->take_io());
}

TEST_F(ExecTest, EveryExitCodeIsExact) {
  for (int code = 0; code < 256; ++code) {
    const auto status = sh("exit " + std::to_string(code))->wait(soon());
    ASSERT_TRUE(status);
    EXPECT_EQ(status->kind, Kind::exited);
    EXPECT_EQ(status->code, code);
  }
}

TEST_F(ExecTest, SignalsEndItAndAreNamed) {
  for (const std::string name : {"TERM", "KILL", "INT", "HUP", "USR1"}) {
    const auto exec = sh("echo ready; exec sleep 60");
    const UniqueFd io = exec->take_io();
    char buffer[16];
    ASSERT_EQ(read_some(io.get(), buffer, sizeof buffer, soon()), 6u);
    exec->signal(name);
    const auto status = exec->wait(soon());
    ASSERT_TRUE(status) << name;
    EXPECT_EQ(status->kind, Kind::signaled) << name;
    EXPECT_EQ(status->signal, name);
  }
  EXPECT_THROW(sh("true")->signal("WINCH"), Error);
}

TEST_F(ExecTest, EndOfInputIsAHalfClose) {
  const auto exec = streams_->exec({.argv = {"sh", "-c", "wc -c; sleep 0.1; echo after"}}, soon());
  const UniqueFd io = exec->take_io();
  write_all(io.get(), std::string(100'000, 'x'), soon());
  ::shutdown(io.get(), SHUT_WR);
  EXPECT_EQ(read_to_end(io.get(), soon()), "100000\nafter\n");
}

TEST_F(ExecTest, OutputMayEndBeforeInput) {
  const auto exec = sh("exec >&- 2>&-; cat > '" + (sshd_->home() / "late").string() + "'; exit 5");
  const UniqueFd io = exec->take_io();
  write_all(io.get(), "first ", soon());
  ::usleep(200'000);
  write_all(io.get(), "second", soon());
  ::shutdown(io.get(), SHUT_WR);
  EXPECT_EQ(exec->wait(soon())->code, 5);
  EXPECT_EQ(std::filesystem::file_size(sshd_->home() / "late"), 12u);
}

/// sshd gives a terminal to the group tty, which a user may do only where it belongs to that already (devpts with
/// gid=5).
bool sshd_can_hand_out_terminals() {
  if (::geteuid() == 0) return true;
  const UniqueFd terminal(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  const char* const name = terminal ? ::ptsname(terminal.get()) : nullptr;
  const auto* const group = ::getgrnam("tty");
  struct stat status {};
  return name && (!group || (::stat(name, &status) == 0 && status.st_gid == group->gr_gid));
}

TEST_F(ExecTest, TerminalHasASizeAndFollowsResizes) {
  if (!sshd_can_hand_out_terminals())
    GTEST_SKIP() << "an sshd of this user cannot hand out terminals here: /dev/pts gives them no group tty (gid=5)";
  const auto exec = streams_->exec(
      {.argv = {"sh", "-c", "stty size; trap 'stty size; exit 3' WINCH; echo $TERM; while :; do sleep 0.05; done"},
       .pty = PtySize{100, 40},
       .term = "screen"},
      soon());
  const UniqueFd io = exec->take_io();
  EXPECT_FALSE(exec->take_err());
  std::string text;
  char buffer[256];
  while (text.find("screen") == std::string::npos)
    text.append(buffer, read_some(io.get(), buffer, sizeof buffer, soon()));
  EXPECT_THAT(text, HasSubstr("40 100"));
  exec->resize({132, 50});
  EXPECT_THAT(read_to_end(io.get(), soon()), HasSubstr("50 132"));
  EXPECT_EQ(exec->wait(soon())->code, 3);
}

TEST_F(ExecTest, VariablesFolderAndQuoting) {
  const auto exec = streams_->exec(
      {.argv = {"sh", "-c", "echo \"$PWD|$X|$1\"", "sh", "a 'b' $c"}, .env = {{"X", "y  z"}}, .workdir = "/usr/lib"},
      soon());
  EXPECT_EQ(read_to_end(exec->take_io().get(), soon()), "/usr/lib|y  z|a 'b' $c\n");
  EXPECT_EQ(streams_->exec({.argv = {"no-such-program"}}, soon())->wait(soon())->code, 127);
}

TEST_F(ExecTest, AClosedReaderEndsTheWriterLikeAPipe) {
  const auto exec = streams_->exec({.argv = {"yes"}}, soon());
  UniqueFd io = exec->take_io();
  char buffer[4096];
  read_some(io.get(), buffer, sizeof buffer, soon());
  io.reset();
  const auto status = exec->wait(soon());
  ASSERT_TRUE(status);
  EXPECT_EQ(status->kind, Kind::signaled);
  EXPECT_EQ(status->signal, "PIPE");
}

TEST_F(ExecTest, WaitEndsAtItsDeadlineAndTheProcessLivesOn) {
  const auto exec = sh("sleep 0.5; exit 9");
  EXPECT_FALSE(exec->wait(Deadline::after(milliseconds(50))));
  EXPECT_EQ(exec->wait(soon())->code, 9);
}

TEST_F(ExecTest, EndIsToldOnceEvenWhenAskedLate) {
  std::atomic<int> told = 0;
  const auto exec = sh("exit 4");
  exec->on_end([&](const GuestStatus& status) { told += status.code; });
  ASSERT_TRUE(exec->wait(soon()));
  for (int i = 0; i < 100 && told == 0; ++i) ::usleep(10'000);
  EXPECT_EQ(told, 4);
  exec->on_end([&](const GuestStatus& status) { told += 10 * status.code; });
  EXPECT_EQ(told, 44);
}

TEST_F(ExecTest, OutputOutlivesTheExecOfAProcessThatHasEnded) {
  constexpr std::size_t bytes = 250'000;  // more than a socket holds, less than what may wait without a reader
  auto exec = streams_->exec({.argv = {"head", "-c", std::to_string(bytes), "/dev/zero"}}, soon());
  const UniqueFd io = exec->take_io();
  ASSERT_TRUE(exec->wait(soon()));
  exec.reset();
  // Another round trip, so that the release has certainly been handled.
  EXPECT_EQ(streams_->exec({.argv = {"true"}}, soon())->wait(soon())->code, 0);
  EXPECT_EQ(read_to_end(io.get(), soon()).size(), bytes);
}

TEST_F(ExecTest, DestroyingOneMidTransferHarmsNobody) {
  const auto other = streams_->exec({.argv = {"cat"}}, soon());
  const UniqueFd io = other->take_io();
  for (int i = 0; i < 20; ++i) {
    auto exec = streams_->exec({.argv = {"cat", "/dev/zero"}}, soon());
    UniqueFd zero = exec->take_io();
    char buffer[65536];
    read_some(zero.get(), buffer, sizeof buffer, soon());
    if (i % 2 == 0) zero.reset();
    exec.reset();
    write_all(io.get(), "ping", soon());
    ASSERT_EQ(read_some(io.get(), buffer, 4, soon()), 4u);
  }
  ::shutdown(io.get(), SHUT_WR);
  EXPECT_EQ(other->wait(soon())->code, 0);
}

}  // namespace
}  // namespace agentvm::guest
