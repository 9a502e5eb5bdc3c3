// The embedded driver among processes: its owner is killed, another one waits, a third is told why it must.

#include <csignal>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/contract/virt/support.hpp"
#include "tests/support/temporary_folder.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::test {
namespace {

using ::testing::HasSubstr;

struct Helper {
  explicit Helper(std::vector<std::string> arguments) : process(spawn(std::move(arguments))) { out.second.reset(); }
  Process spawn(std::vector<std::string> arguments) {
    auto spec = helper_process(std::move(arguments));
    spec.fds[1] = out.second.get();
    return Process::spawn(spec);
  }
  /// Lines up to and including one that begins with `key`.
  std::string until(const std::string& key) {
    std::string text;
    for (;;) {
      const auto line = read_line(out.first.get(), in_seconds(60));
      text += line + "\n";
      if (line.empty() || line.starts_with(key)) return text;
    }
  }
  FdPair out = make_pipe();
  Process process;
};

TEST(EmbeddedRoot, IsHandedOverWhenItsOwnerIsKilled) {
  const TemporaryFolder folder;
  make_probe_guest(folder.path());
  Helper owner({"start", folder.path()});
  const auto started = owner.until("ready");
  const auto id = value_of(started, "id"), pid = value_of(started, "pid");
  ASSERT_NE(id, "(none)") << started;

  // Somebody in a hurry learns who has it.
  Helper hurried({"open", folder.path(), "200"});
  const auto refusal = hurried.until("error");
  EXPECT_THAT(refusal, HasSubstr("error: wrong-state"));
  EXPECT_THAT(refusal, HasSubstr("pid " + std::to_string(owner.process.pid())));

  // Somebody with time waits; the owner's sudden end lets them in, and the machine is still there and obeys.
  Helper patient({"open", folder.path(), "30000"});
  EXPECT_EQ(patient.until("waiting"), "waiting: yes\n");
  owner.process.send_signal(SIGKILL);
  ASSERT_TRUE(owner.process.wait(in_seconds(5)));
  const auto seen = patient.until("gone");
  EXPECT_EQ(value_of(seen, "open"), "yes") << seen;
  EXPECT_EQ(value_of(seen, "id"), id);
  EXPECT_EQ(value_of(seen, "pid"), pid);
  EXPECT_EQ(value_of(seen, "paused"), "yes");
  EXPECT_EQ(value_of(seen, "gone"), "yes");
  EXPECT_NE(pid, "0");
  EXPECT_FALSE(fs::exists("/proc/" + pid));

  // An orderly end hands over, too.
  ASSERT_TRUE(patient.process.wait(in_seconds(20)).value().ok());
  Helper next({"open", folder.path(), "5000"});
  EXPECT_THAT(next.until("id"), HasSubstr("open: yes\nid: none\n"));
}

}  // namespace
}  // namespace agentvm::test
