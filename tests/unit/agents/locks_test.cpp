#include "guest/agents/locks.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.hpp"

namespace agentvm::guest {
namespace {

using test::error_of;
using testing::HasSubstr;

const std::string digest(128, 'a'), other_digest(128, 'b');
const std::string definition =
    "name: own\ncommand: [x]\npackages: [{name: \"@a/own\", version: 1.2.0, sha512: " + digest +
    "}, {name: node, version: 1.0.0, sha512: " + digest + "}]\n";

AgentLock lock_of(const std::string& version, bool pinned) {
  return {{"@a/own", version, other_digest}, pinned};
}

AgentDefinition locked(const AgentLock& lock) {
  auto agent = parse_agent(definition, "own.yaml");
  apply_agent_lock(agent, lock);
  return agent;
}

TEST(AgentLocks, VersionsAreOrdered) {
  const char* rising[] = {"0.9.0",
                          "1.0.0-alpha",
                          "1.0.0-alpha.1",
                          "1.0.0-beta.2",
                          "1.0.0-beta.11",
                          "1.0.0-rc.1",
                          "1.0.0",
                          "1.0.1",
                          "1.2.0",
                          "1.10.0",
                          "2.0.0",
                          "10.0.0",
                          "99999999999999999999.0.0"};
  for (std::size_t i = 0; i < std::size(rising); ++i)
    for (std::size_t j = 0; j < std::size(rising); ++j)
      EXPECT_EQ(compare_versions(rising[i], rising[j]), i < j ? -1 : i > j ? 1 : 0) << rising[i] << " " << rising[j];
  EXPECT_EQ(compare_versions("1.0.0+build", "1.0.0"), 0);
  EXPECT_EQ(compare_versions("0.171.0-linux-x64", "0.169.0-linux-x64"), 1);
  EXPECT_EQ(compare_versions("1.02.0", "1.2.0"), 0);
}

TEST(AgentLocks, ANewerOneCountsAnOlderOnlyWhenPinned) {
  EXPECT_EQ(locked(lock_of("1.3.0", false)).version(), "1.3.0");
  EXPECT_EQ(locked(lock_of("1.3.0", false)).lock, AgentDefinition::Lock::updated);
  EXPECT_EQ(locked(lock_of("1.1.0", false)).version(), "1.2.0") << "the definition went on since";
  EXPECT_EQ(locked(lock_of("1.1.0", true)).version(), "1.1.0");
  EXPECT_EQ(locked(lock_of("1.1.0", true)).packages[0].sha512, other_digest);
  EXPECT_EQ(locked(lock_of("1.1.0", true)).packages[1].sha512, digest);
  auto lock = lock_of("1.3.0", true);
  lock.package.name = "other";
  EXPECT_EQ(locked(lock).version(), "1.2.0");
  EXPECT_NE(layer_key(locked(lock_of("1.3.0", false))), layer_key(locked(lock)));
}

TEST(AgentLocks, TheFileIsReadAsItWasWritten) {
  const AgentLocks locks{{"own", lock_of("1.3.0", true)}, {"two", lock_of("2.0.0", false)}};
  const auto again = parse_agent_locks(agent_locks_text(locks), "f");
  EXPECT_EQ(again.size(), 2u);
  EXPECT_EQ(again.at("own").package.version, "1.3.0");
  EXPECT_TRUE(again.at("own").pinned);
  EXPECT_FALSE(again.at("two").pinned);
}

TEST(AgentLocks, AFileThatIsNotOneIsNamed) {
  const auto entry = [](const std::string& name, const std::string& version, const std::string& sum) {
    return "{\"schema\":1,\"agents\":{\"own\":{\"package\":\"" + name + "\",\"version\":\"" + version +
           "\",\"sha512\":\"" + sum + "\"}}}";
  };
  EXPECT_FALSE(error_of([&] { parse_agent_locks(entry("a", "1", digest), "f"); }));
  for (const auto& text :
       {std::string("{"), std::string("{}"), std::string("{\"schema\":2,\"agents\":{}}"),
        std::string("{\"schema\":1,\"agents\":[1]}"), entry("../a", "1", digest), entry("a;b", "1", digest),
        entry("a", "1;touch x", digest), entry("a", "", digest), entry("a", "1", "00"), entry("a", "../1", digest)}) {
    const auto error = error_of([&] { parse_agent_locks(text, "the-file"); });
    ASSERT_TRUE(error) << text;
    EXPECT_EQ(error->code(), ErrorCode::usage);
    EXPECT_THAT(error->what(), HasSubstr("the-file"));
  }
}

TEST(AgentLocks, TheyStandBesideTheDefinitions) {
  const test::TemporaryFolder folder;
  fs::create_directories(folder / "agents");
  write_file_atomic(folder / "agents/own.yaml", definition);
  write_file_atomic(folder / agent_locks_file, agent_locks_text({{"own", lock_of("1.3.0", false)}}));
  const auto agent = find_agent(folder / "agents", "own");
  EXPECT_EQ(agent.version(), "1.3.0");
  EXPECT_EQ(agent.defined_version, "1.2.0");
}

TEST(Manifest, IsAskedForByItsAddress) {
  EXPECT_EQ(manifest_url("http://r.example/npm//", "@a/b", "latest"), "http://r.example/npm/@a%2fb/latest");
  EXPECT_EQ(manifest_url("https://r.example", "b", "1.0.0+x"), "https://r.example/b/1.0.0%2bx");
}

TEST(Manifest, GivesTheDigestInHexDigits) {
  std::string base64(86, 'A');  // 64 zero bytes
  base64 += "==";
  const auto answer = [&](const std::string& name, const std::string& version, const std::string& integrity) {
    return R"({"name":")" + name + R"(","version":")" + version + R"(","dist":{"integrity":")" + integrity + "\"}}";
  };
  const auto found = parse_manifest(answer("@a/b", "1.2.3", "sha1-x sha512-" + base64), "@a/b");
  EXPECT_EQ(found.version, "1.2.3");
  EXPECT_EQ(found.sha512, std::string(128, '0'));
  for (const auto& text :
       {answer("other", "1.2.3", "sha512-" + base64), answer("@a/b", "1.2.3", "sha1-x"), answer("@a/b", "1.2.3", ""),
        answer("@a/b", "1;2", "sha512-" + base64), answer("@a/b", "1.2.3", "sha512-AAAA"),
        answer("@a/b", "1.2.3", "sha512-!!!!"), std::string("[]"), std::string("<html>")})
    EXPECT_TRUE(error_of([&] { parse_manifest(text, "@a/b"); })) << text;
}

}  // namespace
}  // namespace agentvm::guest
