// What init and the agent read from and write into a guest's root, which the guest may have prepared.
#include "guest/agent/apply.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/agent/accounts.hpp"
#include "guest/agent/machine.hpp"
#include "guest/agent/probes.hpp"
#include "tests/support/temporary_folder.hpp"

namespace agentvm::guest::agent {
namespace {

using test::error_of;

unsigned mode_of(const fs::path& path) {
  struct stat status {};
  EXPECT_EQ(::lstat(path.c_str(), &status), 0) << path;
  return status.st_mode;
}

class ApplyTest : public testing::Test {
 protected:
  ApplyTest() {
    fs::create_directories(root / "etc");
    fs::create_directories(outside.path());
    write_file_atomic(root / "etc/passwd",
                      "root:x:0:0::/root:/bin/bash\nbroken\nagent:x:1000:1000::/home/agent:/bin/bash\n");
    write_file_atomic(root / "etc/group",
                      "root:x:0:\nsudo:x:27:other,agent\nkvm:x:105:agent\nagent:x:1000:\nbad:x:y:agent\n");
    identity.hostname = "box";
    identity.machine_id = std::string(32, '1');
    identity.host_key_private = "secret\n";
    identity.host_key_public = "public\n";
    identity.authorized_keys = "ssh-ed25519 AAAA\n";
    identity.network = GuestNetwork{.resolv_conf = "nameserver 127.0.0.1\n"};
  }
  test::TemporaryFolder root, outside;
  Identity identity;
};

TEST_F(ApplyTest, WritesEveryFileWithItsMode) {
  write_identity(root.path(), identity);
  EXPECT_EQ(read_file(root / "etc/machine-id"), std::string(32, '1') + "\n");
  EXPECT_EQ(read_file(root / "etc/ssh/ssh_host_ed25519_key"), "secret\n");
  EXPECT_EQ(mode_of(root / "etc/ssh/ssh_host_ed25519_key") & 07777, 0600U);
  EXPECT_EQ(read_file(root / "home/agent/.ssh/authorized_keys"), "ssh-ed25519 AAAA\n");
  EXPECT_EQ(mode_of(root / "home/agent/.ssh") & 07777, 0700U);
  EXPECT_EQ(read_file(root / "etc/resolv.conf"), "nameserver 127.0.0.1\n");
  EXPECT_NE(read_file(root / "etc/hosts").find("127.0.1.1\tbox\n"), std::string::npos);
  identity.hostname = "other";
  write_identity(root.path(), identity);
  EXPECT_EQ(read_file(root / "etc/hostname"), "other\n");
}

TEST_F(ApplyTest, LinksThatAGuestLeftBehindLeadNowhereElse) {
  const auto canary = outside / "canary";
  write_file_atomic(canary, "untouched");
  fs::create_directories(root / "home/agent");
  fs::create_symlink(outside.path(), root / "home/agent/.ssh");  // absolute: must be read below the root
  fs::create_symlink(canary, root / "etc/resolv.conf");          // last part: replaced
  fs::create_symlink("../../../../../../../.." + outside.path().string(), root / "etc/agentvm");
  identity.files.push_back({"/etc/agentvm/canary", 0644, 0, 0, "owned"});
  const auto error = error_of([&] { write_identity(root.path(), identity); });
  EXPECT_EQ(read_file(canary), "untouched");
  EXPECT_EQ(std::distance(fs::directory_iterator(outside.path()), fs::directory_iterator()), 1);
  EXPECT_TRUE(error) << "a folder that is a dangling link is an error, not a place to write";
  fs::remove(root / "home/agent/.ssh");
  fs::remove(root / "etc/agentvm");
  write_identity(root.path(), identity);
  EXPECT_TRUE(S_ISREG(mode_of(root / "etc/resolv.conf")));
  EXPECT_EQ(read_file(canary), "untouched");
}

TEST_F(ApplyTest, ALinkInsideTheRootIsFollowedForFolders) {
  fs::create_directories(root / "usr/share/settings");
  fs::create_symlink("/usr/share/settings", root / "etc/settings");
  place_file(root.path(), {"/etc/settings/a", 0600, 0, 0, "x"});
  EXPECT_EQ(read_file(root / "usr/share/settings/a"), "x");
}

TEST_F(ApplyTest, ReadsAccountsOfTheGuest) {
  const auto account = find_account(root.path(), "agent");
  EXPECT_EQ(account.uid, 1000U);
  EXPECT_EQ(account.home, "/home/agent");
  EXPECT_THAT(account.groups, testing::ElementsAre(1000, 27, 105));
  EXPECT_EQ(error_of([&] { find_account(root.path(), "broken"); })->code(), ErrorCode::not_found);
}

TEST_F(ApplyTest, SeesListenersOfBothFamiliesAndNologin) {
  fs::create_directories(root / "proc/net");
  fs::create_directories(root / "run");
  const std::string head = "  sl  local_address rem_address   st tx_queue\n";
  EXPECT_FALSE(ssh_ready(root.path()));
  write_file_atomic(root / "proc/net/tcp",
                    head + "   0: 0F02000A:0016 0202000A:D431 01 0\n   1: 00000000:1600 00000000:0000 0A 0\n");
  EXPECT_FALSE(ssh_ready(root.path())) << "a connection on 22 and a listener on 0x1600 are no sshd";
  write_file_atomic(root / "proc/net/tcp", head + "   0: 00000000:0016 00000000:0000 0A 0\n");
  EXPECT_TRUE(ssh_ready(root.path()));
  fs::remove(root / "proc/net/tcp");
  write_file_atomic(root / "proc/net/tcp6",
                    head + "   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 0");
  EXPECT_TRUE(ssh_ready(root.path()));
  write_file_atomic(root / "run/nologin", "booting");
  EXPECT_FALSE(ssh_ready(root.path()));
}

TEST_F(ApplyTest, SeesTheWorkspace) {
  EXPECT_TRUE(workspace_ready(root.path(), WorkspaceKind::none));
  EXPECT_FALSE(workspace_ready(root.path(), WorkspaceKind::disk));
  EXPECT_FALSE(workspace_ready(root.path(), WorkspaceKind::virtiofs));
  fs::create_directories(root / "proc/self");
  write_file_atomic(root / "proc/self/mountinfo", "30 1 0:5 / /workspace rw - ext4 /dev/vdb rw\n");
  EXPECT_FALSE(workspace_ready(root.path(), WorkspaceKind::virtiofs));
  write_file_atomic(root / "proc/self/mountinfo",
                    "1 0 0:1 / / rw - ext4 x rw\n30 1 0:5 / /workspace rw,nosuid,nodev - virtiofs workspace rw\n");
  EXPECT_TRUE(workspace_ready(root.path(), WorkspaceKind::virtiofs));
}

TEST_F(ApplyTest, IdentityGoesThroughJsonUnchanged) {
  identity.files.push_back({"/etc/x", 0640, 1, 2, std::string("\0\xC3\x28", 3)});
  identity.workspace = WorkspaceKind::disk;
  identity.nested = true;
  identity.unix_ns = 1'700'000'000'123'456'789;
  const auto again = Identity::from_json(parse_json(dump_json(identity.to_json()), "identity"));
  EXPECT_EQ(dump_json(again.to_json()), dump_json(identity.to_json()));
  EXPECT_EQ(again.files[0].content, identity.files[0].content);
}

TEST_F(ApplyTest, IdentityRefusesWhatIsNotWellFormed) {
  const auto refused = [&](const std::string& key, const Json& value) {
    auto json = identity.to_json();
    json[key] = value;
    return error_of([&] { Identity::from_json(json); }).has_value();
  };
  EXPECT_TRUE(refused("hostname", ""));
  EXPECT_TRUE(refused("hostname", "a.b"));
  EXPECT_TRUE(refused("hostname", std::string(64, 'a')));
  EXPECT_TRUE(refused("machine_id", std::string(32, 'g')));
  EXPECT_TRUE(refused("workspace", "nfs"));
  EXPECT_TRUE(refused("network", {{"address", "10.0.2.15"}, {"prefix", 0}}));
  for (const auto* path : {"", "etc/x", "/", "/etc//x", "/etc/../x", "/etc/.", "/etc/x/"})
    EXPECT_TRUE(refused("files", Json::array({{{"path", path}, {"text", ""}}}))) << path;
  EXPECT_TRUE(refused("files", Json::array({{{"path", "/x"}, {"mode", 04755}, {"text", ""}}})));
  EXPECT_TRUE(refused("files", Json::array({{{"path", "/x"}, {"base64", "!"}}})));
}

}  // namespace
}  // namespace agentvm::guest::agent
