#include "cli/manager/ops/host_trust.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.hpp"

namespace agentvm::manager {
namespace {

std::string certificate(const std::string& body) {
  return "-----BEGIN CERTIFICATE-----\n" + body + "\n-----END CERTIFICATE-----\n";
}

TEST(PemCertificates, FindsBlocksAndDropsEverythingElse) {
  const auto text = "a comment\n" + certificate("QUJD") +
                    "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n" + certificate("REVG") +
                    "-----BEGIN CERTIFICATE-----\ncut off";
  EXPECT_THAT(pem_certificates(text), testing::ElementsAre(certificate("QUJD"), certificate("REVG")));
}

class ExtraAuthorities : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(folder_.path() / "distributed/mozilla");
    fs::create_directories(folder_.path() / "local");
    write_file_atomic(folder_.path() / "distributed/mozilla/known.crt", certificate("S05P\nV04="));
    write_file_atomic(folder_.path() / "local/company.crt", certificate("Q09N"));
  }
  test::TemporaryFolder folder_;
};

TEST_F(ExtraAuthorities, AreThoseThatTheDistributionDoesNotBring) {
  // The bundle holds both, its lines broken elsewhere.
  write_file_atomic(folder_.path() / "bundle.pem", certificate("S05PV04=") + certificate("Q0\n9N"));
  EXPECT_THAT(extra_authorities({folder_.path() / "local", folder_.path() / "bundle.pem", folder_.path() / "absent"},
                                folder_.path() / "distributed"),
              testing::ElementsAre(certificate("Q09N")));
}

TEST_F(ExtraAuthorities, NeverTakesKeys) {
  write_file_atomic(folder_.path() / "local/key.pem",
                    "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n");
  for (const auto& block : extra_authorities({folder_.path() / "local"}, folder_.path() / "distributed"))
    EXPECT_EQ(block.find("PRIVATE"), std::string::npos);
}

TEST_F(ExtraAuthorities, AreNoneWhenTheDistributionsListIsMissing) {
  EXPECT_TRUE(extra_authorities({folder_.path() / "local"}, folder_.path() / "nothing-here").empty());
}

}  // namespace
}  // namespace agentvm::manager
