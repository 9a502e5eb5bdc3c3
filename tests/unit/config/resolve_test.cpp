#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include "tests/support/temporary_folder.hpp"
#include "vmm/config.hpp"

namespace agentvm {
namespace {

using test::error_of;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

ConfigInput user(std::string text) {
  return {.user = ConfigFile{"/u/config.yaml", std::move(text)}};
}
ConfigInput project(std::string text) {
  return {.project = ConfigFile{"/p/agentvm.yaml", std::move(text)}};
}

Error usage_of(const ConfigInput& input) {
  const auto error = error_of([&] { resolve_config(input); });
  if (!error) return Error(ErrorCode::operation_failed, "no error was thrown");
  EXPECT_EQ(error->code(), ErrorCode::usage) << error->what();
  return *error;
}

TEST(ConfigResolve, DefaultsStandWithoutAnyLayer) {
  const auto config = resolve_config({});
  EXPECT_EQ(config.size("memory"), ByteSize::gibibytes(8));
  EXPECT_EQ(config.count("vcpus"), 4U);
  EXPECT_TRUE(config.enabled("nested"));
  EXPECT_EQ(config.text("workspace.mode"), "virtiofs");
  EXPECT_EQ(config.text("network"), "filtered");
  EXPECT_EQ(config.text("branch"), "");
  EXPECT_THAT(config.list("egress.allow"), IsEmpty());
  for (const auto& key : config_keys()) EXPECT_EQ(config.at(key.name).origin.str(), "default") << key.name;
}

// Peels one layer after the other off and sees the next one come through, with its origin.
TEST(ConfigResolve, LayersOverrideInOrder) {
  ConfigInput input{.flags = {{"memory", "1G"}},
                    .environment = {{"AGENTVM_MEMORY", "2G"}},
                    .project = ConfigFile{"/p/agentvm.yaml", "vcpus: 2\nmemory:   3G\n"},
                    .user = ConfigFile{"/u/config.yaml", "memory: 4G\n"}};
  const auto expect = [&](std::uint64_t gibibytes, ConfigLayer layer, const std::string& origin) {
    const auto config = resolve_config(input);
    EXPECT_EQ(config.size("memory"), ByteSize::gibibytes(gibibytes));
    EXPECT_EQ(config.at("memory").origin.layer, layer);
    EXPECT_EQ(config.at("memory").origin.str(), origin);
  };
  expect(1, ConfigLayer::flag, "--memory");
  input.flags.clear();
  expect(2, ConfigLayer::environment, "AGENTVM_MEMORY");
  input.environment["AGENTVM_MEMORY"] = "";  // set but empty counts as unset
  expect(3, ConfigLayer::project, "/p/agentvm.yaml:2:11");
  input.project.reset();
  expect(4, ConfigLayer::user, "/u/config.yaml:1:9");
  input.user.reset();
  expect(8, ConfigLayer::default_value, "default");
}

TEST(ConfigResolve, AListMayHaveADefault) {
  const auto paths = resolve_config({}).list("artifacts.paths");
  EXPECT_EQ(paths.front(), "dist");
  EXPECT_EQ(paths.back(), "packages/*/dist");
  EXPECT_TRUE(resolve_config({}).list("egress.allow").empty());
}

TEST(ConfigResolve, UnknownKeyNamesPlaceAndNearest) {
  EXPECT_EQ(usage_of(user("vcpus: 2\n  \nmemmory: 8G\n")).message(),
            "/u/config.yaml:3:1: unknown key 'memmory'; did you mean 'memory'?");
  EXPECT_EQ(usage_of(user("workspace:\n  mod: disk\n")).message(),
            "/u/config.yaml:2:3: unknown key 'workspace.mod'; did you mean 'workspace.mode'?");
  EXPECT_EQ(usage_of(user("zzzzzzzzzzzzzz: 1\n")).message(), "/u/config.yaml:1:1: unknown key 'zzzzzzzzzzzzzz'");
  EXPECT_EQ(usage_of(user("mode: disk\n")).message(),
            "/u/config.yaml:1:1: unknown key 'mode'; did you mean 'workspace.mode'?");
}

TEST(ConfigResolve, WrongTypesAndValuesNameThePlaceAndWhatIsExpected) {
  const std::pair<const char*, const char*> cases[] = {
      {"memory: lots", "1:9: memory: 'lots' is not a size between 256M and 16T, such as 8G"},
      {"memory: 8", "1:9: memory: '8' is not a size between"},
      {"memory: [8G]", "1:9: memory: expected size, found a list"},
      {"memory:", "memory: expected size, found nothing"},
      {"vcpus: 0", "1:8: vcpus: '0' is not a whole number from 1 to 256"},
      {"vcpus: 2.5", "is not a whole number from 1 to 256"},
      {"vcpus: '2'", "expected count, found text in quotes"},
      {"vcpus: -1", "is not a whole number"},
      {"nested: yes", "1:9: nested: 'yes' is not true or false"},
      {"nested: \"true\"", "found text in quotes"},
      {"workspace: disk", "1:12: 'workspace' is a section: expected a mapping"},
      {"workspace: {mode: nfs}", "1:19: workspace.mode: 'nfs' is not one of virtiofs, disk"},
      {"sync: {mode: always}", "sync.mode: 'always' is not one of manual, auto-commit, auto-idle"},
      {"name: Not_A_Name", "name: 'Not_A_Name' is not a sandbox name"},
      {"branch: a..b", "branch: 'a..b' is not a branch name"},
      {"branch: -x", "is not a branch name"},
      {"branch: x.lock", "is not a branch name"},
      {"image: a b", "image: 'a b' is not an image name"},
      {"egress: {allow: example.org}", "expected a list of hosts, found a single value"},
      {"egress: {allow: ['*.org']}", "'*.org' is not a host name"},
      {"egress: {allow: ['example.org:0']}", "port from 1 to 65535"},
      {"egress: {allow: ['example.org:65536']}", "port from 1 to 65535"},
      {"egress: {allow: ['http://example.org']}", "is not a host name"},
      {"egress: {allow: [[a]]}", "found something else in the list"},
      {"libvirt: {uri: 'qemu+ssh://x/system'}", "is not one of auto, qemu:///session, qemu:///system"},
      {"log: {levels: 'sync:loud'}", "'sync:loud' is not AREA:LEVEL"},
      {"- memory", "1:1: expected 'key: value' lines"},
      {"memory: 8G\nmemory: 9G", "key 'memory' is given twice"},
      {"workspace: {mode: disk}\nworkspace.mode: disk", "2:1: key 'workspace.mode' is given twice, first in line 1"},
      {"memory: &a 8G\nname: *a", "aliases are not supported"},
  };
  for (const auto& [text, expected] : cases) {
    const auto error = usage_of(user(text));
    EXPECT_THAT(error.message(), HasSubstr(expected)) << text;
    EXPECT_THAT(error.message(), testing::StartsWith("/u/config.yaml:")) << text;
  }
}

TEST(ConfigResolve, BytesThatAreNoTextAreRefusedWhereTheyStand) {
  for (const auto* bytes : {"\xff", "\xc0\x80", "\xed\xa0\x80", "\xe2\x82"})
    EXPECT_EQ(usage_of(user("memory: 1G\nsync: {gate: {allow: ['" + std::string(bytes) + "']}}\n")).message(),
              "/u/config.yaml:2:1: the line is not valid UTF-8");
  EXPECT_NO_THROW(resolve_config(user("sync: {gate: {allow: ['größe/日本/😀']}}")));
}

TEST(ConfigResolve, FlagAndVariableAreNamedInErrors) {
  EXPECT_EQ(usage_of({.flags = {{"vcpus", "many"}}}).message(), "--vcpus: 'many' is not a whole number from 1 to 256");
  EXPECT_EQ(usage_of({.environment = {{"AGENTVM_NETWORK", "wide"}}}).message(),
            "AGENTVM_NETWORK: 'wide' is not one of filtered, nat, none");
  EXPECT_EQ(usage_of({.environment = {{"AGENTVM_NETWORK", "wide"}}}).hint(), "unset AGENTVM_NETWORK");
  EXPECT_EQ(usage_of({.environment = {{"AGENTVM_BACKEND", "docker"}}}).message(),
            "AGENTVM_BACKEND: 'docker' is not supported: only libvirt is");
  EXPECT_NO_THROW(resolve_config({.environment = {{"AGENTVM_BACKEND", "libvirt"}}}));
  EXPECT_EQ(resolve_config({.flags = {{"nested", "false"}}}).at("nested").origin.str(), "--no-nested");
}

TEST(ConfigResolve, DottedAndNestedFormsMeanTheSame) {
  EXPECT_EQ(resolve_config(user("workspace.mode: disk")).text("workspace.mode"), "disk");
  EXPECT_EQ(resolve_config(user("workspace:\n  mode: disk")).text("workspace.mode"), "disk");
  EXPECT_EQ(resolve_config(user("workspace:\n")).text("workspace.mode"), "virtiofs");
}

TEST(ConfigResolve, HostsAreFoldedAndChecked) {
  const auto config =
      resolve_config(user("egress:\n  allow: [Example.ORG, 'example.org:8443', '192.0.2.1', '[2001:db8::1]:443']\n"));
  EXPECT_THAT(config.list("egress.allow"),
              ElementsAre("example.org", "example.org:8443", "192.0.2.1", "[2001:db8::1]:443"));
}

TEST(ConfigResolve, WildcardsAndGrantsHaveTheirForms) {
  EXPECT_THAT(resolve_config(user("egress: {allow: ['*.Example.ORG', '*.example.org:8443']}")).list("egress.allow"),
              ElementsAre("*.example.org", "*.example.org:8443"));
  for (const auto* bad : {"*", "*.com", "*.", "a.*.example.org", "*example.org", "*.*.example.org"})
    usage_of(user("egress: {allow: ['" + std::string(bad) + "']}"));
  EXPECT_THAT(resolve_config(user("egress: {grants: [registry.internal:5000, '[fd00::1]:443', '10.0.0.1:80']}"))
                  .list("egress.grants"),
              ElementsAre("registry.internal:5000", "[fd00::1]:443", "10.0.0.1:80"));
  for (const auto* bad : {"registry.internal", "[fd00::1]", "*.internal.corp:80", "a:0"})
    usage_of(user("egress: {grants: ['" + std::string(bad) + "']}"));
  EXPECT_THAT(resolve_config(user("egress: {presets: [forges]}")).list("egress.presets"), ElementsAre("forges"));
  EXPECT_THAT(resolve_config(user("egress: {presets: []}")).list("egress.presets"), IsEmpty());
  EXPECT_THAT(usage_of(user("egress: {presets: [forge]}")).message(), HasSubstr("'forge' is not one of model-apis"));
}

TEST(ConfigResolve, AProxyHasAHostAndNoPassword) {
  const auto value = [](const std::string& text) {
    return resolve_config(user("egress.upstream: '" + text + "'\n")).text("egress.upstream");
  };
  EXPECT_EQ(value("environment"), "environment");
  EXPECT_EQ(value("http://Proxy.Example.org:3128/"), "http://proxy.example.org:3128");
  for (const auto* bad :
       {"https://proxy:1", "proxy:3128", "http://", "http://*.example.org:1", "http://proxy:0", "none"})
    EXPECT_THAT(usage_of(user(std::string("egress.upstream: '") + bad + "'\n")).message(),
                HasSubstr("/u/config.yaml:1:"))
        << bad;
  const auto secret = usage_of(user("egress.upstream: http://me:secret@proxy:3128\n"));
  EXPECT_THAT(secret.message(), Not(HasSubstr("secret")));
  EXPECT_THAT(secret.message(), HasSubstr("environment"));
}

// A project may take away, and never what its user took away.
TEST(ConfigResolve, EveryPlaceAddsToTheListsOfHosts) {
  const ConfigInput input{.project = ConfigFile{"/p/agentvm.yaml", "egress: {deny: [b.example, a.example]}"},
                          .user = ConfigFile{"/u/config.yaml", "egress: {deny: [a.example], allow: [c.example]}"}};
  const auto config = resolve_config(input);
  EXPECT_THAT(config.list("egress.deny"), ElementsAre("a.example", "b.example"));
  EXPECT_EQ(config.at("egress.deny").origin.layer, ConfigLayer::project);
  EXPECT_THAT(config.list("egress.allow"), ElementsAre("c.example"));
  EXPECT_THAT(config.warnings(), IsEmpty());
}

TEST(AgentEnvironment, WhatIsSetCountsBeforeWhatIsPassedAndWhatIsDeniedIsGone) {
  const ConfigInput input{
      .project =
          ConfigFile{"/p/agentvm.yaml", "env: {set: [A=project, EMPTY=, WITH=a=b], pass: [STOLEN], deny: [HIDDEN]}"},
      .user = ConfigFile{"/u/config.yaml",
                         "env: {set: [A=user, B=set], pass: [API_*, B, HIDDEN, DENIED_BY_USER], deny: [DENIED_*]}"}};
  const std::map<std::string, std::string> host{{"API_KEY", "k"},       {"API_", "e"},   {"B", "host"},
                                                {"HIDDEN", "h"},        {"STOLEN", "s"}, {"OTHER", "o"},
                                                {"DENIED_BY_USER", "d"}};
  const std::map<std::string, std::string> files{
      {"A", "file"}, {"API_KEY", "file"}, {"MORE", "file"}, {"DENIED_F", "file"}};
  const auto environment = agent_environment(resolve_config(input), host, files);
  const std::map<std::string, std::string> wanted{{"A", "project"}, {"B", "set"},     {"EMPTY", ""}, {"MORE", "file"},
                                                  {"WITH", "a=b"},  {"API_KEY", "k"}, {"API_", "e"}};
  EXPECT_EQ(environment, wanted) << "and STOLEN is the project's wish alone, which nobody trusted";
}

TEST(AgentEnvironment, NamesAndAssignmentsAreChecked) {
  const auto problem = [](const std::string& text) {
    const auto error = test::error_of([&] { resolve_config({.user = ConfigFile{"/u/config.yaml", text}}); });
    return error ? error->what() : std::string("accepted");
  };
  for (const char* name : {"A-B", "1A", "A B", "*A", "A*B", "A=", "*"})
    EXPECT_THAT(problem(std::string("env: {pass: ['") + name + "']}"), HasSubstr("/u/config.yaml:1:")) << name;
  EXPECT_EQ(problem("env: {pass: [_A1], deny: [A*]}"), "accepted");
  EXPECT_THAT(problem("env: {set: [ABC]}"), HasSubstr("NAME=VALUE"));
  EXPECT_THAT(problem("env: {set: ['A B=my-secret']}"), testing::Not(HasSubstr("my-secret"))) << "values are not shown";
}

// Row 16 of the threat model over the whole schema: what a guest could commit has no effect beyond the harmless.
TEST(ConfigResolve, EveryKeyOfTheProjectFileIsTreatedByItsClass) {
  const std::map<std::string_view, std::string> values{
      {"name", "other"},
      {"memory", "1G"},
      {"vcpus", "1"},
      {"nested", "false"},
      {"warm", "true"},
      {"workspace.mode", "disk"},
      {"network", "nat"},
      {"image", "./evil.yaml"},
      {"layers", "[containers]"},
      {"branch", "dev"},
      {"env.pass", "[API_KEY]"},
      {"env.set", "[A=b]"},
      {"env.deny", "[SECRET]"},
      {"env.files", "[.env]"},
      {"env.commands", "['A=touch /tmp/x']"},
      {"agent", "claude"},
      {"credentials.copy", "true"},
      {"accelerator", "tcg"},
      {"libvirt.uri", "qemu:///system"},
      {"persist", "false"},
      {"autostart", "true"},
      {"sync.mode", "auto-commit"},
      {"sync.idle_seconds", "1"},
      {"sync.gate.allow", "[\"**\"]"},
      {"sync.gate.deny", "[]"},
      {"artifacts.paths", "[\"**\"]"},
      {"artifacts.limits.bytes", "16T"},
      {"artifacts.limits.files", "10000000"},
      {"sync.limits.bytes", "1T"},
      {"sync.limits.objects", "1000000000"},
      {"sync.limits.refs", "10000000"},
      {"sync.limits.memory", "1T"},
      {"sync.limits.seconds", "86400"},
      {"wip.interval_seconds", "0"},
      {"egress.presets", "[]"},
      {"egress.allow", "[evil.example]"},
      {"egress.deny", "[good.example]"},
      {"egress.grants", "['localhost:22']"},
      {"egress.ask", "true"},
      {"egress.secrets", "{KEY: {hosts: evil.example, from: 'file:/etc/shadow'}}"},
      {"egress.caps", "[api.example.org 1 requests/day]"},
      {"decoys", "[]"},
      {"egress.upstream", "http://proxy.example.org:3128"},
      {"limits.disk_reserve", "64M"},
      {"limits.nested_memory", "16T"},
      {"limits.nested_vcpus", "256"},
      {"proxy.enable", "false"},
      {"proxy.port", "80"},
      {"proxy.same_port", "true"},
      {"proxy.tls", "true"},
      {"git_identity", "false"},
      {"notify", "touch /tmp/x"},
      {"log.levels", "debug"}};
  for (const auto& key : config_keys()) {
    ASSERT_TRUE(values.contains(key.name)) << "a new key needs a row here: " << key.name;
    const auto input = project("# written by a guest\n" + std::string(key.name) + ": " + values.at(key.name) + "\n");
    if (key.key_class == KeyClass::host_executing) {
      const auto error = error_of([&] { resolve_config(input); });
      ASSERT_TRUE(error) << key.name;
      EXPECT_EQ(error->code(), ErrorCode::decision_needed);
      EXPECT_THAT(error->message(), HasSubstr("/p/agentvm.yaml:2:"));
      EXPECT_THAT(error->message(), HasSubstr(std::string(key.name)));
      continue;
    }
    const auto config = resolve_config(input);
    if (key.key_class == KeyClass::widening) {
      EXPECT_EQ(config.at(key.name).value, resolve_config({}).at(key.name).value) << key.name;
      EXPECT_EQ(config.at(key.name).origin.str(), "default") << key.name;
      ASSERT_EQ(config.warnings().size(), 1U) << key.name;
      EXPECT_THAT(config.warnings()[0], HasSubstr("/p/agentvm.yaml:2:"));
      EXPECT_THAT(config.warnings()[0], HasSubstr("'" + std::string(key.name) + "'"));
    } else {
      EXPECT_EQ(config.at(key.name).origin.layer, ConfigLayer::project) << key.name;
      EXPECT_THAT(config.warnings(), IsEmpty()) << key.name;
    }
  }
}

/// The whole table: a new key is put into one of these on purpose.
TEST(ConfigResolve, WhatAProjectMaySetUnaskedIsWrittenDown) {
  std::map<KeyClass, std::set<std::string_view>> classes;
  for (const auto& key : config_keys()) classes[key.key_class].insert(key.name);
  EXPECT_EQ(classes[KeyClass::harmless],
            (std::set<std::string_view>{"accelerator", "autostart", "branch", "egress.caps", "egress.deny", "env.deny",
                                        "env.set", "git_identity", "layers", "limits.nested_memory",
                                        "limits.nested_vcpus", "log.levels", "memory", "name", "nested", "persist",
                                        "vcpus", "warm", "workspace.mode"}));
  EXPECT_EQ(classes[KeyClass::host_executing],
            (std::set<std::string_view>{"egress.grants", "egress.secrets", "egress.upstream", "env.commands",
                                        "libvirt.uri", "limits.disk_reserve", "notify", "proxy.enable", "proxy.port",
                                        "proxy.same_port", "proxy.tls"}));
  EXPECT_EQ(classes[KeyClass::harmless].size() + classes[KeyClass::widening].size() +
                classes[KeyClass::host_executing].size(),
            config_keys().size());
}

TEST(ConfigResolve, ForeignTextInMessagesCannotSteerATerminal) {
  const std::string evil = "\"\\e]52;c;cHduZWQ=\\a\\u202e\"";
  for (const auto& text : {evil + ": 1", "memory: " + evil, "branch: " + evil, "egress: {allow: [" + evil + "]}",
                           evil + ": 1\n" + evil + ": 2", "name: " + evil, "workspace: {" + evil + ": 1}"}) {
    const auto message = std::string(usage_of(project(text)).what()) + usage_of(project(text)).hint();
    EXPECT_THAT(message, Not(HasSubstr("\x1b"))) << text;
    EXPECT_THAT(message, Not(HasSubstr("\u202e"))) << text;
  }
}

TEST(ConfigFiles, OnlyRegularFilesOfBoundedSizeAreRead) {
  const test::TemporaryFolder folder;
  EXPECT_FALSE(read_config_file(folder / "absent.yaml"));
  EXPECT_FALSE(read_config_file(folder / "absent/config.yaml"));
  write_file_atomic(folder / "good.yaml", "memory: 1G\n");
  EXPECT_EQ(read_config_file(folder / "good.yaml")->text, "memory: 1G\n");
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(error_of([&] { read_config_file(folder / "pipe"); })->code(), ErrorCode::usage);
  EXPECT_EQ(error_of([&] { read_config_file(folder.path()); })->code(), ErrorCode::usage);
  EXPECT_EQ(error_of([&] { read_config_file("/dev/zero"); })->code(), ErrorCode::usage);
  write_file_atomic(folder / "large.yaml", std::string((1u << 20) + 1, '#'));
  EXPECT_EQ(error_of([&] { read_config_file(folder / "large.yaml"); })->code(), ErrorCode::usage);
}

}  // namespace
}  // namespace agentvm
