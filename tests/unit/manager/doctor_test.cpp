#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/manager/ops/doctor_checks.hpp"

namespace agentvm::manager {
namespace {

using testing::HasSubstr;

TEST(DoctorChecks, WhoResolvesTheNamesOfDevServers) {
  EXPECT_EQ(check_names("passwd: files\nhosts:  files myhostname dns\n").status, CheckStatus::pass);
  EXPECT_EQ(check_names("hosts: mymachines resolve [!UNAVAIL=return] files myhostname dns").status, CheckStatus::pass);
  const auto check = check_names("# hosts: myhostname\nhosts: files dns\nnetworks: files resolve\n");
  EXPECT_EQ(check.status, CheckStatus::warn);
  EXPECT_EQ(check.remedy, "sudo apt-get install libnss-myhostname");
  EXPECT_EQ(check_names("").status, CheckStatus::warn);
}

TEST(DoctorChecks, WhoTrustsTheAuthorityOfDevServers) {
  const auto check = check_certificate("/state/proxy-ca/agentvm.crt", "ours", {});
  EXPECT_EQ(check.status, CheckStatus::warn);
  EXPECT_THAT(check.finding, HasSubstr("import /state/proxy-ca/agentvm.crt"));
  EXPECT_EQ(check.remedy,
            "sudo cp '/state/proxy-ca/agentvm.crt' /usr/local/share/ca-certificates/agentvm.crt && sudo "
            "update-ca-certificates");
  EXPECT_EQ(check_certificate("/f", "ours", "an older one").status, CheckStatus::warn);
  EXPECT_EQ(check_certificate("/f", {}, {}).status, CheckStatus::warn);
  const auto trusted = check_certificate("/f", "ours", "ours");
  EXPECT_EQ(trusted.status, CheckStatus::pass);
  EXPECT_EQ(trusted.remedy, "");
}

TEST(DoctorChecks, HowManyFilesAWorkspaceMayHave) {
  EXPECT_EQ(check_open_files(1048576).status, CheckStatus::pass);
  EXPECT_EQ(check_open_files(65536).status, CheckStatus::pass);
  const auto few = check_open_files(20000);
  EXPECT_EQ(few.status, CheckStatus::warn);
  EXPECT_THAT(few.finding, HasSubstr("20000 files and folders"));
  EXPECT_THAT(few.remedy, HasSubstr("--workspace disk"));
}

TEST(DoctorChecks, AccessControlIsNamed) {
  EXPECT_THAT(check_access_control({}, {}).finding, HasSubstr("no access control"));
  EXPECT_THAT(check_access_control("N\n", {}).finding, HasSubstr("no access control"));
  const auto apparmor = check_access_control("Y\n", {});
  EXPECT_EQ(apparmor.status, CheckStatus::pass);
  EXPECT_THAT(apparmor.finding, HasSubstr("AppArmor is on"));
  const auto selinux = check_access_control({}, "1");
  EXPECT_EQ(selinux.status, CheckStatus::warn);
  EXPECT_THAT(selinux.finding, HasSubstr("SELinux is enforcing"));
  EXPECT_EQ(check_access_control({}, "0").data["selinux"], "permissive");
}

TEST(DoctorChecks, WhetherMachinesRunInGuests) {
  const auto on =
      check_nested({.kvm = true, .module = "kvm_intel", .parameter = "Y", .device = true, .device_opens = true});
  EXPECT_EQ(on.status, CheckStatus::pass);
  EXPECT_EQ(on.remedy, "");
  const auto off =
      check_nested({.kvm = true, .module = "kvm_amd", .parameter = "0", .device = true, .device_opens = true});
  EXPECT_EQ(off.status, CheckStatus::warn);
  EXPECT_THAT(off.finding, HasSubstr("kvm_amd was loaded with nested=0"));
  EXPECT_THAT(off.remedy, HasSubstr("options kvm_amd nested=1' | sudo tee /etc/modprobe.d/"));
  EXPECT_THAT(check_nested({.device = true, .user = "eve"}).remedy, HasSubstr("usermod -aG kvm eve"));
  EXPECT_EQ(check_nested({.device = true, .device_opens = true}).remedy, "") << "the trial's word is another check's";
  EXPECT_THAT(check_nested({.container = true}).remedy, HasSubstr("--device /dev/kvm"));
  EXPECT_THAT(check_nested({.virtual_host = true}).finding, HasSubstr("this host is a virtual machine"));
  EXPECT_THAT(check_nested({}).remedy, HasSubstr("firmware"));
  EXPECT_THAT(check_nested({.cpu_flag = true}).remedy, HasSubstr("modprobe"));
}

TEST(DoctorChecks, WhetherSandboxesOutliveALogout) {
  EXPECT_EQ(check_logout({.logind = false, .scopes = true}).status, CheckStatus::pass);
  EXPECT_EQ(check_logout({.logind = true, .lingers = true, .scopes = true, .kills = true}).status, CheckStatus::pass);
  EXPECT_EQ(check_logout({.logind = true}).status, CheckStatus::pass);
  const auto scope = check_logout({.logind = true, .scopes = true});
  EXPECT_EQ(scope.status, CheckStatus::warn);
  EXPECT_EQ(scope.remedy, "loginctl enable-linger");
  EXPECT_THAT(check_logout({.logind = true, .kills = true}).finding, HasSubstr("KillUserProcesses"));
}

}  // namespace
}  // namespace agentvm::manager
