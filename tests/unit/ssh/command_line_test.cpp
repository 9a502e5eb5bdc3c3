#include "guest/ssh/command_line.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/process.hpp"

namespace agentvm::guest {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string run_in_shell(const ExecSpec& spec, const std::string& shell = "sh") {
  return run_checked({.argv = {shell, "-c", guest_command(spec, "agent")}}, Deadline::after(milliseconds(10'000)));
}

TEST(ShellQuote, ShellsReadEveryWordBackUnchanged) {
  std::string all_bytes;
  for (int byte = 1; byte < 256; ++byte) all_bytes += static_cast<char>(byte);
  const std::vector<std::string> words = {"",         "plain", "two words",  "it's", "\"$HOME\"", "`id`",
                                          "$(id)",    "a\nb",  "\\",         "*",    "~",         "-n",
                                          "a=b",      "!!",    "'",          "''",   "#no",       "end\\",
                                          "tab\tbed", ";ls",   "\xff\xfe\n", "&&",   "{a,b}",     all_bytes};
  ExecSpec spec;
  spec.argv = {"printf", "%s|"};
  std::string expected;
  for (const auto& word : words) {
    spec.argv.push_back(word);
    expected += word + "|";
  }
  EXPECT_EQ(run_in_shell(spec, "sh"), expected);
  EXPECT_EQ(run_in_shell(spec, "bash"), expected);
}

TEST(GuestCommand, VariablesAndFolderReachTheProgram) {
  ExecSpec spec;
  spec.argv = {"sh", "-c", "printf '%s,%s,%s' \"$A\" \"$B_2\" \"$PWD\""};
  spec.env = {{"A", "one 'two' $three"}, {"B_2", "line\nline"}};
  spec.workdir = "/tmp/..";
  EXPECT_EQ(run_in_shell(spec), "one 'two' $three,line\nline,/");
}

TEST(GuestCommand, NoShellRemainsAroundTheProgram) {
  ExecSpec spec;
  spec.argv = {"sh", "-c", "cat /proc/$PPID/comm"};
  // The parent of the innermost sh is this test's own process, not another shell.
  EXPECT_THAT(run_in_shell(spec), Not(HasSubstr("sh\n")));
}

TEST(GuestCommand, AFolderThatIsNotThereIs126) {
  ExecSpec spec;
  spec.argv = {"true"};
  spec.workdir = "/nonexistent";
  EXPECT_EQ(run({.argv = {"sh", "-c", guest_command(spec, "agent")}}, Deadline::after(milliseconds(5000))).status.code,
            126);
}

TEST(GuestCommand, AProgramNamedLikeAVariableOrAnOptionIsStillAProgram) {
  for (const std::string name : {"A=b", "-x"}) {
    ExecSpec spec;
    spec.argv = {name};
    const RunResult result =
        run({.argv = {"sh", "-c", guest_command(spec, "agent")}}, Deadline::after(milliseconds(5000)));
    EXPECT_EQ(result.status.code, 127) << name << ": " << result.err;
  }
}

TEST(GuestCommand, AnotherUserGoesThroughSudo) {
  ExecSpec spec;
  spec.argv = {"id", "it's"};
  spec.user = "root";
  EXPECT_THAT(guest_command(spec, "agent"), testing::StartsWith("exec sudo -n -H -u root -- sh -c "));
  EXPECT_THAT(guest_command(spec, "root"), Not(HasSubstr("sudo")));
  // The nested quoting must still be one argument to sh -c: let a stand-in for sudo print its last one.
  std::string pattern = "/tmp/agentvm-test-sudo-XXXXXX";
  const fs::path folder = ::mkdtemp(pattern.data());
  write_file_atomic(folder / "sudo", "#!/bin/sh\nshift 6\nprintf '%s' \"$2\"\n", 0755);
  const std::string printed =
      run_checked({.argv = {"sh", "-c", "PATH=" + folder.string() + ":$PATH; " + guest_command(spec, "agent")}},
                  Deadline::after(milliseconds(5000)));
  remove_tree(folder);
  EXPECT_EQ(printed, "exec env -- id 'it'\\''s'");
}

TEST(GuestCommand, RefusesWhatAShellCannotCarry) {
  const auto code_of = [](const ExecSpec& spec) {
    try {
      guest_command(spec, "agent");
    } catch (const Error& error) {
      return std::string(to_string(error.code())) + ": " + error.message();
    }
    return std::string("accepted");
  };
  EXPECT_THAT(code_of({}), HasSubstr("no command"));
  EXPECT_THAT(code_of({.argv = {"a", std::string("b\0c", 3)}}), HasSubstr("NUL"));
  EXPECT_THAT(code_of({.argv = {"a"}, .env = {{"A-B", "c"}}}), HasSubstr("not a variable name"));
  EXPECT_THAT(code_of({.argv = {"a"}, .env = {{"X=Y;id", "c"}}}), HasSubstr("not a variable name"));
  EXPECT_THAT(code_of({.argv = {"a"}, .user = "root; id"}), HasSubstr("not a user name"));
  EXPECT_THAT(code_of({.argv = {"a"}, .user = "-u"}), HasSubstr("not a user name"));
  EXPECT_THAT(code_of({.argv = {"a", std::string(command_limit_bytes, 'x')}}), HasSubstr("bytes long"));
}

TEST(GuestStatus, IsWhatAShellWouldReturn) {
  using Kind = GuestStatus::Kind;
  EXPECT_EQ((GuestStatus{Kind::exited, 7, ""}.shell_code()), 7);
  EXPECT_EQ((GuestStatus{Kind::signaled, 0, "KILL"}.shell_code()), 137);
  EXPECT_EQ((GuestStatus{Kind::signaled, 0, "TERM"}.shell_code()), 143);
  EXPECT_EQ((GuestStatus{Kind::signaled, 0, "HOSTILE"}.shell_code()), 128);
  EXPECT_EQ(GuestStatus{}.shell_code(), 125);
}

}  // namespace
}  // namespace agentvm::guest
