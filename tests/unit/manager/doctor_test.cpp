#include <gtest/gtest.h>

#include "cli/manager/ops/doctor_checks.hpp"

namespace agentvm::manager {
namespace {

TEST(DoctorChecks, WhoResolvesTheNamesOfDevServers) {
  EXPECT_EQ(check_names("passwd: files\nhosts:  files myhostname dns\n").status, CheckStatus::pass);
  EXPECT_EQ(check_names("hosts: mymachines resolve [!UNAVAIL=return] files myhostname dns").status, CheckStatus::pass);
  const auto check = check_names("# hosts: myhostname\nhosts: files dns\nnetworks: files resolve\n");
  EXPECT_EQ(check.status, CheckStatus::warn);
  EXPECT_EQ(check.remedy, "sudo apt-get install libnss-myhostname");
  EXPECT_EQ(check_names("").status, CheckStatus::warn);
}

}  // namespace
}  // namespace agentvm::manager
