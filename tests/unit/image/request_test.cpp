#include "guest/image/request.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "guest/image/embedded.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"

namespace agentvm {
namespace {

using ::testing::HasSubstr;

class Request : public ::testing::Test {
 protected:
  fs::path folder_ = fs::temp_directory_path() / ("request-" + random_hex(6));
  ImageRequest request_{.images = folder_ / "images",
                        .cache = folder_ / "cache",
                        .libexec = folder_ / "libexec",
                        .recipe = folder_ / "recipe.yaml",
                        .apt = folder_ / "apt",
                        .mode = BuildMode::reuse};
  std::string recipe_ = "name: small\nsuite: bookworm\nkernel: linux-image-cloud-amd64\npackages: [git]\n";

  void SetUp() override {
    fs::create_directories(folder_ / "libexec");
    fs::create_directories(folder_ / "apt");
    put("libexec/agentvm-guest", "program 1");
    put("recipe.yaml", recipe_);
    put("keyring.gpg", "keys 1");
    sources("http://mirror.example/debian");
  }
  void TearDown() override { remove_tree(folder_); }
  void put(const std::string& file, const std::string& content) { write_file_atomic(folder_ / file, content); }
  void sources(const std::string& uri) {
    put("apt/sources.list", "deb [signed-by=" + (folder_ / "keyring.gpg").string() + "] " + uri + " bookworm main\n");
  }
};

TEST_F(Request, SameInputSameDigest) {
  EXPECT_EQ(resolve_request(request_).digest, resolve_request(request_).digest);
  EXPECT_EQ(resolve_request(request_).digest.size(), 64u);
}

TEST_F(Request, WhatDecidesTheResultChangesTheDigest) {
  const auto before = resolve_request(request_);
  const auto changed = [&](const char* what, auto change, auto undo, bool root_too) {
    change();
    const auto after = resolve_request(request_);
    EXPECT_NE(after.digest, before.digest) << what;
    EXPECT_EQ(after.root_digest != before.root_digest, root_too) << what;
    undo();
    EXPECT_EQ(resolve_request(request_).digest, before.digest) << what;
  };
  changed(
      "the guest program, and the disk stays", [&] { put("libexec/agentvm-guest", "program 2"); },
      [&] { put("libexec/agentvm-guest", "program 1"); }, false);
  changed(
      "a package", [&] { put("recipe.yaml", recipe_ + "mask: [fstrim.timer]\n"); },
      [&] { put("recipe.yaml", recipe_); }, true);
  changed(
      "a layer", [&] { request_.layers = {"containers"}; }, [&] { request_.layers = {}; }, true);
  changed(
      "the mirror", [&] { sources("http://other.example/debian"); }, [&] { sources("http://mirror.example/debian"); },
      true);
  changed(
      "the archive's keys", [&] { put("keyring.gpg", "keys 2"); }, [&] { put("keyring.gpg", "keys 1"); }, true);
}

TEST_F(Request, WhatDoesNotDecideTheResultDoesNot) {
  const auto before = resolve_request(request_).digest;
  put("recipe.yaml", "# a comment\n" + recipe_);
  sources("http://user:password@mirror.example/debian");
  request_.images = folder_ / "elsewhere";
  EXPECT_EQ(resolve_request(request_).digest, before);
}

TEST_F(Request, MissingPartsAreNamed) {
  const auto message = [&]() -> std::string {
    try {
      resolve_request(request_);
    } catch (const Error& error) {
      return error.message();
    }
    return "";
  };
  fs::remove(folder_ / "libexec/agentvm-guest");
  EXPECT_THAT(message(), HasSubstr("agentvm-guest is not there"));
  request_.recipe = folder_ / "absent.yaml";
  EXPECT_THAT(message(), HasSubstr("absent.yaml"));
  put("absent.yaml", "nam: x\n");
  EXPECT_THAT(message(), HasSubstr("absent.yaml:1:1: unknown key 'nam'; did you mean 'name'?"));
}

TEST(Embedded, SettingsKeepTheirModes) {
  bool sudo_seen = false, sshd_seen = false;
  for (const auto& file : embedded_rootfs()) {
    const bool program = file.path.starts_with("/usr/local/lib/agentvm/");
    EXPECT_TRUE(program || file.path.starts_with("/etc/")) << file.path;
    if (program) {
      EXPECT_EQ(file.mode, 0755u) << file.path;
    }
    EXPECT_FALSE(file.content.empty()) << file.path;
    if (file.path == "/etc/sudoers.d/agent") sudo_seen = file.mode == 0440;
    if (file.path == "/etc/ssh/sshd_config") {
      sshd_seen = true;
      for (const auto* line : {"\nPasswordAuthentication no\n", "\nKbdInteractiveAuthentication no\n", "\nUseDNS no\n",
                               "\nHostKey /etc/ssh/ssh_host_ed25519_key\n", "\nSubsystem sftp internal-sftp\n"})
        EXPECT_THAT(std::string(file.content), HasSubstr(line));
    }
  }
  EXPECT_TRUE(sudo_seen);
  EXPECT_TRUE(sshd_seen);
}

}  // namespace
}  // namespace agentvm
