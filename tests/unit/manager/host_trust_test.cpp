#include "cli/manager/ops/host_trust.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.hpp"
#include "vmm/base/process.hpp"

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

TEST(SubjectHash, IsNothingForWhatIsNoCertificate) {
  EXPECT_EQ(subject_hash(certificate("QUJD")), "");
  EXPECT_EQ(subject_hash(""), "");
}

/// Against the name that OpenSSL's own tool gives the links in a folder.
TEST(SubjectHash, IsTheNameOfTheLink) {
  test::TemporaryFolder folder;
  const auto key = (folder.path() / "key.pem").string(), file = (folder.path() / "ca.pem").string();
  run({.argv = {"openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/O=A company/CN=Inspection",
                "-keyout", key, "-out", file}},
      Deadline::after(std::chrono::seconds(20)));
  auto told = run({.argv = {"openssl", "x509", "-noout", "-subject_hash", "-in", file}},
                  Deadline::after(std::chrono::seconds(20)))
                  .out;
  told.pop_back();
  ASSERT_EQ(told.size(), 8u);
  EXPECT_EQ(subject_hash(read_file(file)), told);
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
