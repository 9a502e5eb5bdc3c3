#include "cli/manager/ops/secrets.hpp"

#include <future>

#include <gmock/gmock.h>
#include <sys/stat.h>

#include "tests/support/records.hpp"
#include "tests/support/temporary_folder.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::manager {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::MatchesRegex;

SecretRule rule(const std::string& name, const std::string& host, const std::string& from) {
  return {.name = name,
          .hosts = {host},
          .from = from,
          .headers = {"Authorization"},
          .variable = name,
          .shape = "sk-{}",
          .projects = {}};
}

class SecretKeeperTest : public testing::Test {
 protected:
  SecretKeeperTest() {
    record.network = NetworkMode::filtered;
    record.egress_secrets = {rule("KEY", "api.example.org", "env:AGENTVM_TEST_KEY"),
                             rule("OTHER", "*.example.net:8443", "file:/none")};
    ensure_private_dir(folder.path() / "state");
    ensure_private_dir(store.folder(record.name));
  }
  std::string value_of(const std::string& name) {
    std::promise<std::string> promise;
    keeper.set_for(record, {})->values->get(name, [&](const auto& value, const std::string& problem) {
      promise.set_value(value ? value->text() : "! " + problem);
    });
    return promise.get_future().get();
  }
  fs::path file(const char* name) const { return store.folder(record.name) / name; }

  test::TemporaryFolder folder;
  Store store{folder.path() / "state"};
  SecretKeeper keeper{store};
  SandboxRecord record = test::full_record("box");
};

TEST_F(SecretKeeperTest, PlaceholdersAreRandomStableAndTheUsersAlone) {
  keeper.begin(record, {});
  const auto lines = keeper.environment(record);
  ASSERT_THAT(lines, ElementsAre(MatchesRegex("KEY=sk-[0-9a-f]{48}"), MatchesRegex("OTHER=sk-[0-9a-f]{48}")));
  EXPECT_NE(lines[0].substr(4), lines[1].substr(6));
  keeper.begin(record, {});
  EXPECT_EQ(keeper.environment(record), lines);
  EXPECT_EQ(SecretKeeper(store).environment(record), lines);
  for (const char* name : {"secrets.json", "egress-ca/authority.pem"}) {
    struct stat status {};
    ASSERT_EQ(::stat(file(name).c_str(), &status), 0) << name;
    EXPECT_EQ(status.st_mode & 07777, 0600u) << name;
  }
}

TEST_F(SecretKeeperTest, TheProxyIsToldOfHostsAndPortsAndTheGuestOfItsAuthority) {
  keeper.begin(record, {});
  const auto set = keeper.set_for(record, {});
  ASSERT_EQ(set->uses.size(), 2u);
  EXPECT_TRUE(set->uses[0].meant_for({"api.example.org", 443}));
  EXPECT_FALSE(set->uses[0].meant_for({"api.example.org", 80}));
  EXPECT_TRUE(set->uses[1].meant_for({"a.example.net", 8443}));
  EXPECT_EQ("KEY=" + set->uses[0].placeholder, keeper.environment(record)[0]);
  ASSERT_TRUE(set->authority) << set->no_authority;
  EXPECT_TRUE(set->authority->leaf("api.example.org"));
  EXPECT_ANY_THROW(set->authority->leaf("github.com"));
  EXPECT_THAT(keeper.authority(record), HasSubstr("BEGIN CERTIFICATE"));
}

/// What the guest does not trust is of no use: only a start may renew it.
TEST_F(SecretKeeperTest, OtherHostsNeedAStart) {
  keeper.begin(record, {});
  const auto first = keeper.authority(record);
  auto other = record;
  other.egress_secrets[0].hosts = {"other.example.org"};
  EXPECT_FALSE(keeper.set_for(other, {})->authority);
  EXPECT_THAT(keeper.set_for(other, {})->no_authority, HasSubstr("not an authority for"));
  keeper.begin(other, {});
  EXPECT_TRUE(keeper.set_for(other, {})->authority);
  EXPECT_NE(keeper.authority(other), first);
}

TEST_F(SecretKeeperTest, TheClientsVariableCountsUntilTheSandboxEnds) {
  ::setenv("AGENTVM_TEST_KEY", "of the manager", 1);
  EXPECT_EQ(value_of("KEY"), "of the manager");
  keeper.begin(record, {{"AGENTVM_TEST_KEY", "of the client"}, {"HOME", "/none"}});
  EXPECT_EQ(value_of("KEY"), "of the client");
  keeper.end(record.name);
  EXPECT_EQ(value_of("KEY"), "of the client");
  keeper.forget(record.name);
  EXPECT_EQ(value_of("KEY"), "of the manager");
  // Another start, while it runs.
  EXPECT_FALSE(keeper.take(record, {{"OTHER_KEY", "of nobody"}}));
  EXPECT_TRUE(keeper.take(record, {{"AGENTVM_TEST_KEY", "of another client"}}));
  EXPECT_FALSE(keeper.take(record, {{"AGENTVM_TEST_KEY", "of another client"}}));
  EXPECT_EQ(value_of("KEY"), "of another client");
}

TEST_F(SecretKeeperTest, StatusSaysHowEachIsAndNeverItsValue) {
  keeper.begin(record, {{"AGENTVM_TEST_KEY", "hunter2"}});
  EXPECT_EQ(keeper.status(record)[0]["state"], "not-asked");
  EXPECT_EQ(value_of("KEY"), "hunter2");
  EXPECT_THAT(value_of("OTHER"), HasSubstr("! /none"));
  const auto status = keeper.status(record);
  EXPECT_EQ(status[0]["state"], "ok");
  EXPECT_EQ(status[0]["source"], "env");
  EXPECT_TRUE(status[0]["last_use"].is_string());
  EXPECT_EQ(status[1]["state"], "failed");
  EXPECT_THAT(status.dump(), testing::Not(HasSubstr("hunter2")));
  EXPECT_THAT(secret_variables(record.egress_secrets), ElementsAre("AGENTVM_TEST_KEY"));
}

TEST_F(SecretKeeperTest, WithoutTheProxyBetweenThereAreNone) {
  record.network = NetworkMode::nat;
  keeper.begin(record, {});
  EXPECT_FALSE(keeper.set_for(record, {}));
  EXPECT_THAT(keeper.environment(record), ElementsAre());
  EXPECT_EQ(keeper.authority(record), "");
  EXPECT_FALSE(fs::exists(file("secrets.json")));
}

TEST_F(SecretKeeperTest, TheUserIsToldOnceAMinute) {
  EXPECT_TRUE(keeper.may_tell("box"));
  EXPECT_FALSE(keeper.may_tell("box"));
  EXPECT_TRUE(keeper.may_tell("other"));
}

TEST(SecretsPlan, WarnsOfHostsThatNoRuleAllows) {
  const std::vector<SecretRule> rules{rule("KEY", "api.example.org", "command:pass show key"),
                                      rule("OTHER", "*.example.net", "env:OTHER")};
  const egress::EgressPolicy policy({egress::HostRule::parse("*.example.net", "egress.allow")});
  std::vector<std::string> warnings;
  const auto plan = secrets_plan(rules, policy, warnings);
  EXPECT_EQ(plan[0]["source"], "command");
  EXPECT_THAT(plan.dump(), testing::Not(HasSubstr("pass show")));
  EXPECT_THAT(warnings, ElementsAre("egress.secrets: KEY is for api.example.org, which no rule allows"));
}

}  // namespace
}  // namespace agentvm::manager
