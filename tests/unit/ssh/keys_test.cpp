#include "guest/ssh/keys.hpp"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include "guest/ssh/ssh_config.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/process.hpp"

namespace agentvm::guest {
namespace {

using testing::HasSubstr;

class Keys : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = "/tmp/agentvm-test-keys-XXXXXX";
    folder_ = ::mkdtemp(pattern.data());
  }
  void TearDown() override { remove_tree(folder_); }
  std::string openssh(std::vector<std::string> argv) {
    return run_checked({.argv = std::move(argv)}, Deadline::after(milliseconds(10'000)));
  }
  fs::path folder_;
};

TEST_F(Keys, OpensshReadsBothHalves) {
  const KeyPair pair = generate_ed25519("agent@sandbox one");
  EXPECT_THAT(pair.private_pem, testing::StartsWith("-----BEGIN OPENSSH PRIVATE KEY-----\n"));
  EXPECT_THAT(pair.public_line, testing::EndsWith(" agent@sandbox one"));
  write_file_atomic(folder_ / "key", pair.private_pem, 0600);
  write_file_atomic(folder_ / "key.pub", pair.public_line + "\n", 0644);
  // ssh-keygen -y prints the public half of the private file.
  const std::string derived = openssh({"ssh-keygen", "-y", "-P", "", "-f", folder_ / "key"});
  EXPECT_EQ(derived.substr(0, 80), pair.public_line.substr(0, 80));
  EXPECT_THAT(openssh({"ssh-keygen", "-l", "-f", folder_ / "key.pub"}), HasSubstr(key_fingerprint(pair.public_line)));
}

TEST_F(Keys, EveryPairIsNew) {
  EXPECT_NE(generate_ed25519("").private_pem, generate_ed25519("").private_pem);
}

TEST_F(Keys, RefusesTextThatWouldStartAnotherLine) {
  EXPECT_THROW(generate_ed25519("a\nssh-ed25519 AAAA"), Error);
  EXPECT_THROW(key_fingerprint("ssh-rsa AAAA"), Error);
  EXPECT_THROW(key_fingerprint("ssh-ed25519 not-base64!"), Error);
  EXPECT_THROW(key_fingerprint(""), Error);
}

TEST_F(Keys, OpensshAcceptsTheStanza) {
  const fs::path odd = folder_ / "a folder with % and 'quotes'";
  fs::create_directory(odd);
  SshStanza stanza{.name = "web", .port = 2222, .identity_file = odd / "key", .known_hosts_file = odd / "known_hosts"};
  const KeyPair pair = generate_ed25519("host");
  write_file_atomic(odd / "known_hosts", known_hosts_line("web", pair.public_line), 0600);
  write_file_atomic(folder_ / "config", ssh_config_stanza(stanza), 0600);
  const std::string shown = openssh({"ssh", "-G", "-F", folder_ / "config", "agentvm-web"});
  for (const std::string line :
       {"hostname 127.0.0.1", "port 2222", "user agent", "identitiesonly yes", "stricthostkeychecking true",
        "hostkeyalias agentvm-web", "forwardagent no", "hostkeyalgorithms ssh-ed25519"})
    EXPECT_THAT(shown, HasSubstr(line + "\n"));
  EXPECT_THAT(shown, HasSubstr("a folder with %% and 'quotes'/key\n"));
  EXPECT_THAT(openssh({"ssh-keygen", "-F", "agentvm-web", "-f", odd / "known_hosts"}),
              HasSubstr(pair.public_line.substr(0, 80)));
}

TEST_F(Keys, RefusesPathsThatTheConfigurationCannotQuote) {
  for (const std::string path : {"/a\"b", "/a\nb", "/a${HOME}"})
    EXPECT_THROW(ssh_config_stanza({.name = "x", .port = 1, .identity_file = path, .known_hosts_file = "/k"}), Error)
        << path;
}

}  // namespace
}  // namespace agentvm::guest
