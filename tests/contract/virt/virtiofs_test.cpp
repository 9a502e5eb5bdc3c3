// A folder shared with a real guest, as this user and (when that is root) as a throw-away one.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/contract/virt/support.hpp"
#include "tests/support/temporary_folder.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/unix_socket.hpp"
#include "vmm/virtiofs/mapped_process.hpp"
#include "vmm/virtiofs/virtiofsd.hpp"

namespace agentvm::test {
namespace {

using ::testing::HasSubstr;

/// What the guest's probe said: "probe: KEY VALUE".
std::string probe(const std::string& text, const std::string& key) {
  const auto wanted = "probe: " + key + " ";
  const auto at = text.find(wanted);
  if (at == std::string::npos) return "(none)";
  const auto end = text.find_first_of("\r\n", at);
  return text.substr(at + wanted.size(), end - at - wanted.size());
}

std::string run_share(const TemporaryFolder& folder, std::optional<HelperUser> user, bool read_only = false) {
  make_probe_guest(folder.path());
  if (user)
    for (const auto& path : {folder.path(), folder / "kernel", folder / "initrd"})
      check_errno(::chown(path.c_str(), user->uid, user->gid), "chown");
  std::vector<std::string> arguments{"share", folder.path()};
  if (read_only) arguments.push_back("read-only");
  auto spec = helper_process(arguments, user);
  spec.fds.clear();
  const auto result = run(spec, in_seconds(150));
  EXPECT_TRUE(result.status.ok()) << result.out << result.err << read_tail(folder / "virtiofsd.log", 4096);
  return result.out;
}

void expect_confined(const std::string& text) {
  EXPECT_EQ(value_of(text, "worker-Seccomp"), "2");
  EXPECT_EQ(value_of(text, "worker-NoNewPrivs"), "1");
  EXPECT_EQ(value_of(text, "waiter-NoNewPrivs"), "1");
  EXPECT_EQ(value_of(text, "waiter-CapEff"), "0000000000000000");
  EXPECT_EQ(value_of(text, "worker-nice"), "5");
  EXPECT_EQ(value_of(text, "worker-oom_score_adj"), "300");
  EXPECT_NE(value_of(text, "worker-Uid"), "0");  // a subordinate id, for root and user alike
  EXPECT_NE(value_of(text, "worker-Uid"), value_of(text, "me").substr(0, value_of(text, "me").find(':')));
}

void expect_working_share(const std::string& text) {
  EXPECT_EQ(probe(text, "mount"), "ok") << text;
  EXPECT_EQ(probe(text, "agent-read"), "from the host");
  EXPECT_EQ(probe(text, "agent-write"), "ok");
  EXPECT_EQ(probe(text, "agent-mkdir"), "ok");
  EXPECT_EQ(probe(text, "owner-seen"), "1000:1000");
  EXPECT_EQ(probe(text, "agent-over-root"), "Permission denied");
  // What a hostile guest root tries.
  EXPECT_EQ(probe(text, "root-write"), "ok");
  EXPECT_EQ(probe(text, "root-mknod"), "Operation not permitted");
  EXPECT_EQ(probe(text, "root-chown-unmapped"), "Invalid argument");
  EXPECT_EQ(probe(text, "root-fallocate"), "Operation not supported");
  EXPECT_EQ(probe(text, "root-fallocate-keep"), "Operation not supported");
  EXPECT_EQ(probe(text, "root-fallocate-hole"), "ok");
  EXPECT_EQ(probe(text, "root-leak"), "No such file or directory");
  EXPECT_EQ(probe(text, "end"), "ok");
  expect_confined(text);
  // On the host: the agent's files are the owner's, guest root's belong to nobody who is anybody.
  const auto owner = value_of(text, "owner");
  EXPECT_EQ(value_of(text, "host-from-agent"), owner);
  EXPECT_EQ(value_of(text, "host-hello"), owner);
  const auto root_file = value_of(text, "host-from-root");
  EXPECT_NE(root_file, "(none)");
  EXPECT_NE(root_file, owner);
  EXPECT_NE(root_file, "0:0");
  EXPECT_EQ(value_of(text, "daemon-ended"), "yes");
  EXPECT_EQ(value_of(text, "removed"), "yes");
}

TEST(VirtiofsGuest, WorksAsThisUser) {
  const TemporaryFolder folder;
  const auto text = run_share(folder, std::nullopt);
  expect_working_share(text);
  if (::geteuid() != 0) {
    EXPECT_EQ(value_of(text, "owner"), value_of(text, "me"));
  }
}

TEST(VirtiofsGuest, WorksAsAnUnprivilegedUser) {
  if (::geteuid() != 0) GTEST_SKIP() << "WorksAsThisUser is that case already";
  const ThrowawayUser user;
  const TemporaryFolder folder;
  const auto text = run_share(folder, user.ids());
  expect_working_share(text);
  EXPECT_EQ(value_of(text, "owner"), value_of(text, "me"));
  EXPECT_EQ(value_of(text, "me"), std::to_string(user.ids().uid) + ":" + std::to_string(user.ids().gid));
}

TEST(VirtiofsGuest, ReadOnlyIsEnforcedOnTheHost) {
  const TemporaryFolder folder;
  const auto text = run_share(folder, std::nullopt, true);
  EXPECT_EQ(probe(text, "agent-read"), "from the host") << text;
  EXPECT_EQ(probe(text, "agent-write"), "Read-only file system");
  EXPECT_EQ(probe(text, "root-write"), "Read-only file system");
  EXPECT_EQ(value_of(text, "host-from-root"), "(none)");
}

class VirtiofsDaemonTest : public ::testing::Test {
 protected:
  VirtiofsDaemonTest() { ensure_private_dir(folder / "shared"); }
  VirtiofsSpec spec() const { return {folder / "shared", folder / "fs.sock", folder / "log", host_id_map()}; }
  const TemporaryFolder folder;
};

TEST_F(VirtiofsDaemonTest, AStartThatFailsLeavesNoDaemon) {
  ProcessIdentity identity;
  {
    const auto daemon = start_virtiofsd(spec(), in_seconds(20));
    identity = daemon.identity();
    EXPECT_TRUE(virtiofsd_runs(identity));
  }
  EXPECT_FALSE(virtiofsd_runs(identity));
  EXPECT_FALSE(fs::exists("/proc/" + std::to_string(identity.pid))) << "a zombie";
}

TEST_F(VirtiofsDaemonTest, AReleasedDaemonIsEndedByItsIdentity) {
  const auto identity = start_virtiofsd(spec(), in_seconds(20)).release();
  EXPECT_TRUE(virtiofsd_runs(identity));
  stop_virtiofsd({identity.pid, identity.start_ticks + 1}, in_seconds(5));  // somebody else: untouched
  EXPECT_TRUE(virtiofsd_runs(identity));
  stop_virtiofsd(identity, in_seconds(5));
  EXPECT_FALSE(virtiofsd_runs(identity));
  stop_virtiofsd(identity, in_seconds(5));
}

TEST_F(VirtiofsDaemonTest, EndsWhenItsPeerDoes) {
  const auto identity = start_virtiofsd(spec(), in_seconds(20)).release();
  connect_unix(spec().socket, in_seconds(5)).reset();
  for (int i = 0; i < 250 && virtiofsd_runs(identity); ++i) ::usleep(20000);
  EXPECT_FALSE(virtiofsd_runs(identity));
  stop_virtiofsd(identity, in_seconds(5));
}

TEST_F(VirtiofsDaemonTest, AMissingFolderIsNamed) {
  auto wrong = spec();
  wrong.folder = folder / "absent";
  const auto error = error_of([&] { start_virtiofsd(wrong, in_seconds(20)); });
  ASSERT_TRUE(error);
  EXPECT_THAT(error->message(), HasSubstr("absent"));
}

TEST_F(VirtiofsDaemonTest, ALongSocketPathIsRefused) {
  auto wrong = spec();
  wrong.socket = "/" + std::string(107, 's');
  EXPECT_TRUE(error_of([&] { start_virtiofsd(wrong, in_seconds(20)); }));
}

TEST(MappedProcess, RunsAsTheNamespacesRoot) {
  ProcessSpec spec;
  spec.argv = {"sh", "-c", "id -u; id -g; cat /proc/self/uid_map"};
  const auto map = host_id_map();
  const auto result = run_mapped(spec, map, in_seconds(20));
  EXPECT_TRUE(result.status.ok()) << result.err;
  EXPECT_THAT(result.out, HasSubstr("0\n0\n"));
  EXPECT_THAT(result.out, HasSubstr(std::to_string(map.uids[0].outside)));
}

TEST(MappedProcess, AMapThatIsRefusedIsTheReason) {
  ProcessSpec spec;
  spec.argv = {"true"};
  const IdMap twice{{{0, 100000, 10}, {5, 200000, 10}}, {{0, 100000, 10}}};
  const auto error = error_of([&] { run_mapped(spec, twice, in_seconds(20)); });
  ASSERT_TRUE(error);
  EXPECT_THAT(error->message(), HasSubstr("map"));
}

TEST(MappedProcess, TheDeadlineEndsIt) {
  ProcessSpec spec;
  spec.argv = {"sleep", "60"};
  const auto error = error_of([&] { run_mapped(spec, host_id_map(), Deadline::after(milliseconds(300))); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::timed_out);
}

}  // namespace
}  // namespace agentvm::test
