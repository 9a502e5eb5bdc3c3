// Definitions of agent programs, and the scripts made from them. The scripts that can run here do.
#include "guest/agents/agents.hpp"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/process.hpp"

namespace agentvm::guest {
namespace {

using test::error_of;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

const std::string digest(128, 'a');
const std::string own = "name: own\ncommand: [./bin/own, --flag]\ninstall: touch here\n";

std::string complaint(const std::string& text) {
  const auto error = error_of([&] { parse_agent(text, "own.yaml"); });
  return error && error->code() == ErrorCode::usage ? error->what() : "accepted";
}

TEST(Agents, TheCatalogueIsWholeAndPinned) {
  std::vector<std::string> names;
  for (const auto& agent : agent_definitions("/nonexistent")) {
    names.push_back(agent.name);
    EXPECT_TRUE(agent.has_layer()) << agent.name;
    EXPECT_FALSE(agent.version().empty()) << agent.name;
    EXPECT_TRUE(agent.install.empty()) << agent.name << ": what is built in runs nobody's script";
    EXPECT_EQ(agent.origin, "built-in");
  }
  EXPECT_THAT(names, ElementsAre("claude", "codex", "gemini", "opencode"));
}

TEST(Agents, AWrongDefinitionIsRefusedWithItsPlace) {
  EXPECT_THAT(complaint("name: own\n"), HasSubstr("'command' is missing"));
  EXPECT_THAT(complaint("command: [x]\n"), HasSubstr("'name' is missing"));
  EXPECT_THAT(complaint("name: Own\ncommand: [x]\n"), HasSubstr("own.yaml:1:7"));
  EXPECT_THAT(complaint("name: own\ncomand: [x]\n"), HasSubstr("did you mean 'command'"));
  EXPECT_THAT(complaint("name: own\ncommand: x\n"), HasSubstr("'command' is a list"));
  EXPECT_THAT(complaint("name: own\ncommand: [x]\nenvironment: {1A: b}\n"), HasSubstr("no name of a variable"));
  EXPECT_THAT(complaint("- name\n"), HasSubstr("is a mapping"));
  for (const char* path : {"/etc/passwd", "../x", "a/../../x", "a//b", "."})
    EXPECT_THAT(complaint(std::string("name: own\ncommand: [x]\nfiles: [{path: '") + path + "', content: y}]\n"),
                HasSubstr("no path below the home folder"))
        << path;
}

TEST(Agents, APackageIsItsNameVersionAndDigest) {
  const auto with = [](const std::string& name, const std::string& version, const std::string& sum) {
    return complaint("name: own\ncommand: [x]\npackages: [{name: \"" + name + "\", version: \"" + version +
                     "\", sha512: " + sum + "}]\n");
  };
  EXPECT_EQ(with("@scope/name", "1.2.3-rc.1", digest), "accepted");
  for (const char* name : {"", "..", "@scope", "@/x", "a/b", "@a/../b", "a b", "a;b"})
    EXPECT_THAT(with(name, "1.0.0", digest), HasSubstr("no name of a package")) << name;
  EXPECT_THAT(with("a", "1/2", digest), HasSubstr("no version"));
  EXPECT_THAT(with("a", "1.0.0", digest.substr(1)), HasSubstr("128 lower-case hex digits"));
}

TEST(Agents, OnesOwnDefinitionCountsMore) {
  const test::TemporaryFolder folder;
  write_file_atomic(folder.path() / "mine.yaml", "name: claude\ncommand: [mine]\n");
  write_file_atomic(folder.path() / "own.yaml", own);
  write_file_atomic(folder.path() / "notes.txt", "no definition");
  EXPECT_THAT(find_agent(folder.path(), "claude").command, ElementsAre("mine"));
  EXPECT_EQ(find_agent(folder.path(), "own").origin, (folder.path() / "own.yaml").string());
  const auto error = error_of([&] { find_agent(folder.path(), "claud"); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::not_found);
  EXPECT_THAT(error->what(), HasSubstr("did you mean 'claude'"));
}

TEST(Agents, TheKeyIsOfWhatIsInstalled) {
  auto agent = parse_agent(own, "own.yaml");
  const auto key = layer_key(agent);
  EXPECT_LE(layer_serial(key).size(), 20u) << "a disk's serial";
  agent.arguments.push_back("--other");
  agent.title = "Another";
  EXPECT_EQ(layer_key(agent), key) << "how it is started is no part of it";
  agent.install += "!";
  EXPECT_NE(layer_key(agent), key);
  agent = parse_agent(own, "own.yaml");
  agent.packages.push_back({"a", "1.0.0", digest});
  EXPECT_NE(layer_key(agent), key);
}

TEST(Agents, APackageIsComparedBeforeItIsUnpackedAndNothingOfItRuns) {
  auto agent = parse_agent(own, "own.yaml");
  agent.install.clear();
  agent.packages.push_back({"@scope/name", "1.0.0", digest});
  const auto script = install_script(agent, "https://registry.example/npm/");
  EXPECT_THAT(script, HasSubstr("https://registry.example/npm/@scope/name/-/name-1.0.0.tgz"));
  EXPECT_LT(script.find("sha512sum --check"), script.find("tar -x"));
  EXPECT_LT(script.find(digest), script.find("sha512sum --check"));
  EXPECT_THAT(script, Not(HasSubstr("npm ")));
  EXPECT_GT(script.find("[ -e ./bin/own ]"), script.find("tar -x")) << "a wrong path is found when it is installed";
}

/// Runs `script` with HOME in a folder that goes with the test.
RunResult run_at(const fs::path& home, const std::string& script) {
  ProcessSpec spec{.argv = {"sh", "-s"}, .cwd = home.string()};
  spec.env = {{"HOME", home.string()}, {"PATH", "/usr/bin:/bin"}};
  return run(spec, Deadline::after(milliseconds(20'000)), script);
}

TEST(Agents, SettingsAreWrittenWhereThereAreNone) {
  const test::TemporaryFolder home;
  auto agent = parse_agent(own, "own.yaml");
  const std::string content = "it's \"quoted\" $(not run) `nor this` \\ %s\n";
  agent.files = {{".own/settings", content}, {".own.json", "{}"}};
  ASSERT_TRUE(run_at(home.path(), home_script(agent)).status.ok());
  EXPECT_EQ(read_file(home.path() / ".own/settings"), content);
  EXPECT_EQ(fs::status(home.path() / ".own.json").permissions(), fs::perms::owner_read | fs::perms::owner_write);
  agent.files[1].content = "{\"new\": 1}";
  ASSERT_TRUE(run_at(home.path(), home_script(agent)).status.ok());
  EXPECT_EQ(read_file(home.path() / ".own.json"), "{}") << "the program's own changes stay";
}

TEST(Agents, VariablesAreTheProgramsAlone) {
  const auto script = variables_script({{"API_KEY", "it's $secret"}});
  EXPECT_THAT(script, HasSubstr("umask 077"));
  EXPECT_THAT(script, HasSubstr("/run/agentvm/agent.env")) << "a file system in memory";
  const auto command = system_script(parse_agent(own, "own.yaml"));
  EXPECT_THAT(command, HasSubstr(". /run/agentvm/agent.env"));
  EXPECT_LT(command.find(". /run/agentvm/agent.env"), command.find("exec /opt/agentvm/own/bin/own"));
}

TEST(Agents, ALoginIsLentInMemoryAndTheGuestsOwnStays) {
  const test::TemporaryFolder home, memory;
  const auto agent =
      parse_agent("name: own\ncommand: [x]\ncredentials: [.own/login.json, .own/other, .third]\n", "own.yaml");
  const auto run_script = [&](const std::vector<AgentFile>& lent) {
    auto script = credentials_script(agent, lent);
    for (auto at = script.find(credentials_folder); at != std::string::npos; at = script.find(credentials_folder, at))
      script.replace(at, std::string(credentials_folder).size(), (memory / "lent").string());
    const auto result = run_at(home.path(), script);
    EXPECT_TRUE(result.status.ok()) << result.err;
  };
  fs::create_directory(home / ".own");
  write_file_atomic(home / ".own/other", "of the guest");
  run_script({{".own/login.json", "it's a\nsecret"}, {".own/other", "of the host"}});
  EXPECT_TRUE(fs::is_symlink(home / ".own/login.json"));
  EXPECT_EQ(read_file(home / ".own/login.json", 100), "it's a\nsecret");
  EXPECT_EQ(fs::status(home / ".own/login.json").permissions(), fs::perms::owner_read | fs::perms::owner_write);
  EXPECT_EQ(read_file(home / ".own/other", 100), "of the guest");
  fs::remove_all(memory / "lent");  // the guest ended
  run_script({});
  EXPECT_FALSE(fs::is_symlink(home / ".own/login.json")) << "whoever logs in inside must not write through it";
  EXPECT_EQ(read_file(home / ".own/other", 100), "of the guest");
  EXPECT_TRUE(error_of([] { parse_agent("name: own\ncommand: [x]\ncredentials: [../x]\n", "own.yaml"); }));
  EXPECT_TRUE(error_of([] { parse_agent("name: own\ncommand: [x]\ncredentials: [/etc/shadow]\n", "own.yaml"); }));
}

/// Of the script of a start, with its paths in a folder of the test.
class AgentSays : public testing::Test {
 protected:
  AgentSays() {
    auto script = system_script(parse_agent("name: own\ncommand: [x]\n", "own.yaml"));
    script = script.substr(script.find("mkdir -p /usr/local/lib/agentvm"));
    for (const std::string path : {"/usr/local/", "/run/agentvm/"})
      for (auto at = script.find(path); at != script.npos; at = script.find(path, at + dir.path().string().size() + 1))
        script.insert(at, dir.path().string());
    for (const char* folder : {"usr/local/lib/agentvm", "run/agentvm/sessions"}) fs::create_directories(dir / folder);
    const auto made = run_at(dir.path(), script);
    EXPECT_TRUE(made.status.ok()) << made.err;
  }
  /// Of the session "web-main".
  std::string said() { return read_file_if_exists(dir / "run/agentvm/sessions/web-main.said").value_or("nothing"); }
  void say(const std::string& words, const std::string& session = "web-main") {
    const auto result = run_at(dir.path(), "AGENTVM_SESSION=" + session + " usr/local/lib/agentvm/agent-says " + words);
    EXPECT_TRUE(result.status.ok()) << "a hook that fails may stop its program: " << result.err;
    EXPECT_EQ(result.out + result.err, "");
  }
  const test::TemporaryFolder dir;
};

TEST_F(AgentSays, OneWordOfTheSessionThatRuns) {
  say("waiting");
  EXPECT_EQ(said(), "nothing") << "no such session";
  write_file_atomic(dir / "run/agentvm/sessions/web-main", "running 9\n");
  say("waiting");
  EXPECT_EQ(said(), "waiting\n");
  say("working");
  EXPECT_EQ(said(), "nothing");
  say("bell '{\"type\": \"agent-turn-complete\"}'");
  EXPECT_EQ(said(), "bell\n");
  say("shouting");
  EXPECT_EQ(said(), "bell\n");
  for (const char* bad : {"''", "../sessions/web-main", "'a b'"}) say("waiting", bad);
  EXPECT_EQ(said(), "bell\n");
}

TEST_F(AgentSays, ASessionKnowsItsNameAndForgetsWhatWasSaid) {
  write_file_atomic(dir / "run/agentvm/sessions/web-main", "running 9\n");
  say("waiting");
  const auto result = run_at(dir.path(),
                             "SHELL=/bin/true usr/local/lib/agentvm/agent-session web-main sh -c 'cat "
                             "run/agentvm/sessions/*; echo of $AGENTVM_SESSION; exit 3'");
  EXPECT_THAT(result.out, HasSubstr("running "));
  EXPECT_THAT(result.out, HasSubstr("of web-main"));
  EXPECT_THAT(result.out, Not(HasSubstr("waiting")));
  EXPECT_EQ(read_file(dir / "run/agentvm/sessions/web-main", 100), "ended 3\n");
}

TEST(Agents, ABellIsNotedByTmux) {
  EXPECT_THAT(
      bell_words("web-main"),
      ElementsAre(
          ";", "set-hook", "-t", "=web-main:", "alert-bell",
          "run-shell -b 'AGENTVM_SESSION=web-main /usr/local/lib/agentvm/agent-says bell >/dev/null 2>&1 || :'"));
}

TEST(Agents, ATaskIsOneWordOfTheProgram) {
  auto agent = parse_agent("name: own\ncommand: [x]\ntask: [-i]\nrun: [-p]\n", "own.yaml");
  const auto session = session_command(agent, "web-main", {"fix", "the", "tests; rm -rf /"});
  EXPECT_THAT(std::vector(session.begin() + 1, session.end()),
              ElementsAre("web-main", "own", "-i", "fix the tests; rm -rf /"));
  EXPECT_EQ(session_command(agent, "web-main", {}).size(), 3u);
  EXPECT_THAT(run_command(agent, "fix the tests"), ElementsAre("own", "-p", "fix the tests"));
}

TEST(Agents, TheCommandIsWrittenWithItsSettings) {
  auto agent = parse_agent(own, "own.yaml");
  agent.environment["A"] = "b c";
  agent.arguments = {"--yes"};
  const auto script = system_script(agent);
  EXPECT_THAT(script, HasSubstr("ro,nosuid,nodev"));
  EXPECT_THAT(script, HasSubstr(layer_serial(layer_key(agent))));
  EXPECT_THAT(script, HasSubstr("exec /opt/agentvm/own/bin/own --flag --yes"));
  agent.install.clear();
  EXPECT_THAT(system_script(agent), Not(HasSubstr("mount "))) << "nothing is installed, so there is no disk";
}

}  // namespace
}  // namespace agentvm::guest
