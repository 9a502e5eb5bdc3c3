// Commands end to end against the fake operations: what they send, print and return.

#include <gmock/gmock.h>

#include "tests/contract/cli/home.hpp"

namespace agentvm::test {
namespace {

using Commands = ClientTest;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

TEST_F(Commands, ReadCommandsPrintTablesAndJson) {
  EXPECT_EQ(run({"list"}).out,
            "SANDBOX  STATE    BACKEND  UPTIME  PROJECT\n"
            "one      running  libvirt  1m 1s   /src/one\n"
            "two      running  libvirt  1m 1s   /src/two\n");
  EXPECT_EQ(run({"ls"}).out, run({"ps"}).out);
  EXPECT_EQ(json({"list", "--json"})["schema"], "agentvm.list/1");
  EXPECT_EQ(json({"manager", "status", "--json"})["socket"].get<std::string>().find(home_.path().string()), 0u);
}

TEST_F(Commands, SendWhereTheyStandAndNothingSecret) {
  auto process_spec = spec({"status", "--json"});
  (*process_spec.env)["AGENTVM_MEMORY"] = "3G";
  (*process_spec.env)["GITHUB_TOKEN"] = "hunter2";
  const auto result = agentvm::run(process_spec, Deadline::after(step_limit));
  const auto params = parse_json(result.out, "status")["params"];
  EXPECT_EQ(params["cwd"], home_.path().string());
  EXPECT_EQ(params["env"]["AGENTVM_MEMORY"], "3G");
  EXPECT_THAT(result.out, Not(HasSubstr("hunter2")));
  EXPECT_FALSE(params.contains("name"));
  EXPECT_EQ(json({"status", "box", "--json"})["params"]["name"], "box");
  // Nor does the manager that was started on the way hold it.
  EXPECT_THAT(read_file("/proc/" + std::to_string(manager_pid()) + "/environ"), Not(HasSubstr("hunter2")));
}

TEST_F(Commands, FirstSignalCancelsTheRequest) {
  auto err = make_pipe();
  auto process_spec = spec({"start", "--json"});
  process_spec.fds[2] = err.second.get();
  auto process = Process::spawn(process_spec);
  err.second.reset();
  char buffer[256];
  const auto count = read_some(err.first.get(), buffer, sizeof buffer, Deadline::after(step_limit));
  EXPECT_EQ(std::string(buffer, count), "agentvm: booting\n") << "plain lines off a terminal, and no line per percent";
  process.send_signal(SIGINT);
  const auto status = process.wait(Deadline::after(step_limit));
  ASSERT_TRUE(status);
  EXPECT_EQ(status->code, 5) << status->describe();
  EXPECT_TRUE(eventually([&] {
    return json({"manager", "status", "--json"})["requests"] == 1;
  })) << "it still works on it";
}

TEST_F(Commands, StartOfARunningSandboxIs2WithItsStatus) {
  const auto result = run({"start", "running", "--json"});
  EXPECT_EQ(result.status.code, 2);
  EXPECT_EQ(parse_json(result.out, "status")["name"], "one");
  EXPECT_EQ(run({"start", "started", "--no-attach"}).status.code, 0);
}

TEST_F(Commands, WhatASessionPrintedIsTextForALogAndFilteredForAPlayer) {
  EXPECT_EQ(run({"replay", "one", "--json"}).status.code, 1) << "nothing is recorded";
  ensure_private_dir(home_ / "recording");
  write_file_atomic(home_ / "recording/0001764433000000.cast",
                    "{\"version\":2}\n[0,\"r\",\"90x20\"]\n[1,\"o\",\"\\u001b[31mred\\u001b[0m\\u001b[6n\\r\\n\"]\n"
                    "[2.5,\"o\",\"\\u001b]52;c;eA==\\u0007done\"]\n");
  EXPECT_EQ(run({"logs", "one", "--agent"}).out, "red\ndone\n");
  const auto log = json({"logs", "one", "--agent", "--json"});
  EXPECT_EQ(log["schema"], "agentvm.logs/1");
  EXPECT_EQ(log["text"], "red\ndone\n");
  EXPECT_EQ(run({"replay", "one", "--cast", "-"}).out,
            "{\"version\":2,\"width\":90,\"height\":20,\"timestamp\":1764433000,\"title\":\"agentvm one-main\"}\n"
            "[1.0,\"o\",\"\\u001b[31mred\\u001b[0m\\r\\n\"]\n[2.5,\"o\",\"done\"]\n");
  const auto played = json({"replay", "one", "--json"});
  EXPECT_EQ(played["duration_seconds"], 2.5);
  EXPECT_EQ(played["begun"], "2025-11-29T16:16:40Z");
  EXPECT_EQ(run({"replay", "one"}).status.code, 64) << "no terminal";
  for (const auto* speed : {"0", "-1", "fast", "1e3", "nan", "inf", ""})
    EXPECT_EQ(run({"replay", "one", "--json", "--speed", speed}).status.code, 64) << speed;
  EXPECT_EQ(run({"logs", "one", "--screen"}).status.code, 64);
}

TEST_F(Commands, SyncStatusFollowsTheOutcome) {
  EXPECT_EQ(run({"sync"}).status.code, 0);
  EXPECT_EQ(run({"sync", "--branch", "updated"}).status.code, 0);
  for (const auto* outcome : {"gated", "diverged", "conflict", "dirty"})
    EXPECT_EQ(run({"sync", "--branch", outcome}).status.code, 6) << outcome;
  const auto warned = run({"sync"});
  EXPECT_EQ(warned.err, "agentvm: warning: a warning\\x1b[2J with an escape\n");
  EXPECT_EQ(warned.out, "main is up to date\n");
}

TEST_F(Commands, WipTellsASandboxFromASnapshotAndFollowsTheOutcome) {
  const auto params = [&](std::vector<std::string> words) { return json(std::move(words))["params"]; };
  EXPECT_FALSE(params({"wip", "apply", "--json"}).contains("wip"));
  EXPECT_EQ(params({"wip", "apply", "20260131T080910Z-x.timer", "--json"})["wip"], "20260131T080910Z-x.timer");
  EXPECT_FALSE(params({"wip", "apply", "20260131T080910Z", "--json"}).contains("name"));
  const auto both = params({"wip", "drop", "web", "20260131T080910Z", "--force", "--json"});
  EXPECT_EQ(both["name"], "web");
  EXPECT_EQ(both["wip"], "20260131T080910Z");
  EXPECT_EQ(run({"wip", "apply", "applied"}).status.code, 0);
  EXPECT_EQ(run({"wip", "apply", "up-to-date"}).status.code, 0);
  for (const auto* outcome : {"gated", "conflict"}) {
    const auto result = run({"wip", "apply", outcome});
    EXPECT_EQ(result.status.code, 6) << outcome;
    EXPECT_THAT(result.out, HasSubstr("a\\x1b[2J"));
  }
  EXPECT_EQ(run({"wip", "drop", "web"}).status.code, 64) << "which?";
  EXPECT_EQ(run({"wip", "drop", "web", "--all"}).status.code, 64) << "nobody can be asked";
  EXPECT_EQ(run({"wip", "drop", "web", "x", "--all", "--force"}).status.code, 64);
  EXPECT_THAT(run({"wip", "drop", "web", "--all", "--force"}).err, HasSubstr("dropped x (its commit was 0123456789)"));
}

TEST_F(Commands, AWatchShowsEachSyncUntilTheSandboxEnds) {
  const auto watched = run({"sync", "--watch"});
  EXPECT_EQ(watched.status.code, 0);
  EXPECT_EQ(watched.out, "b7 is up to date\nb8 is up to date\nb9 is up to date\n");
  EXPECT_THAT(watched.err, HasSubstr("'one' does not run any more"));
  const auto lines = run({"sync", "--watch", "--json"}).out;
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 3);
  EXPECT_EQ(run({"sync", "--watch", "--accept"}).status.code, 64);
}

TEST_F(Commands, ArtifactsTakeTheirWordsAndSayWhatWaits) {
  const auto result = json({"sync", "one", "--to", "x/../y", "--artifacts", "dist", "a/*", "--json"});
  EXPECT_EQ(result["params"]["name"], "one");
  EXPECT_EQ(result["params"]["globs"], Json::parse(R"(["dist", "a/*"])"));
  EXPECT_THAT(result["params"]["to"].get<std::string>(), testing::EndsWith("/y"));
  EXPECT_TRUE(json({"sync", "--artifacts", "--json"})["params"]["globs"].empty());
  const auto shown = run({"sync", "--artifacts"});
  EXPECT_EQ(shown.status.code, 0);
  EXPECT_EQ(shown.out, "2 files, 2K brought, 1 unchanged: /d\\x1b[2J\n");
  EXPECT_EQ(run({"sync", "--artifacts", "--accept"}).status.code, 6);
  for (const auto* other : {"--watch", "--branch=x"})
    EXPECT_EQ(run({"sync", "--artifacts", other}).status.code, 64) << other;
  EXPECT_EQ(run({"sync", "--to", "x"}).status.code, 64);
}

TEST_F(Commands, DoctorIs4WhenACheckFails) {
  const auto result = run({"doctor"});
  EXPECT_EQ(result.status.code, 4);
  EXPECT_THAT(result.out, HasSubstr("try: rm"));
  const auto report = run({"doctor", "--report"});
  EXPECT_EQ(report.status.code, 0);
  EXPECT_THAT(report.out, AllOf(HasSubstr("## doctor"), HasSubstr("try: rm"), HasSubstr("end of the manager's log")));
  EXPECT_EQ(report.out.find(home_.path().string()), std::string::npos);
  EXPECT_EQ(run({"doctor", "--report", "--json"}).status.code, 64);
}

TEST_F(Commands, StopAllGoesOnAfterAFailure) {
  const auto result = run({"stop", "--all"});
  EXPECT_EQ(result.status.code, 7);
  EXPECT_THAT(result.err, HasSubstr("'one' is stopped"));
  EXPECT_THAT(result.err, HasSubstr("'two' does not stop"));
  EXPECT_EQ(json({"stop", "one", "--timeout", "2m", "--json"})["params"]["timeout_seconds"], 120);
  EXPECT_EQ(run({"stop", "one", "--timeout", "soon"}).status.code, 64);
}

TEST_F(Commands, DestroyAsksOrNeedsForce) {
  const auto refused = run({"destroy", "one"}, "y\n");
  EXPECT_EQ(refused.status.code, 64);
  EXPECT_THAT(refused.err, HasSubstr("agentvm destroy one --force"));
  const auto result = run({"destroy", "one", "--force"});
  EXPECT_EQ(result.status.code, 0);
  EXPECT_THAT(result.err, HasSubstr("kept as refs/agentvm/x/wip/1"));
}

TEST_F(Commands, SshHandsOverToTheSystemsProgram) {
  std::filesystem::create_directory(home_ / "bin");
  write_file_atomic(home_ / "bin/ssh", "#!/bin/sh\necho \"$@\"\nexit 3\n", 0755);
  auto process_spec = spec({"ssh", "one", "--", "-v", "uptime"});
  (*process_spec.env)["PATH"] = (home_ / "bin").string() + ":/usr/bin:/bin";
  const auto result = agentvm::run(process_spec, Deadline::after(step_limit));
  EXPECT_EQ(result.status.code, 3);
  EXPECT_EQ(result.out, "-F " + (home_ / "ssh_config").string() + " agentvm-one -v uptime\n");
  EXPECT_EQ(run({"ssh-config", "one"}).out, "Host agentvm-one\n");
}

TEST_F(Commands, LogsShowAndFollowCleaned) {
  put("serial.log",
      "boot\r\n\x1b]0;title\x07"
      "evil\n");
  EXPECT_EQ(run({"logs", "one"}).out,
            "boot\n\\x1b]0;title\\x07"
            "evil\n");
  auto out = make_pipe();
  auto process_spec = spec({"logs", "one", "--follow"});
  process_spec.fds[1] = out.second.get();
  auto process = Process::spawn(process_spec);
  std::string seen;
  const auto wait_for_text = [&](const std::string& text) {
    char buffer[256];
    while (seen.find(text) == std::string::npos)
      seen.append(buffer, read_some(out.first.get(), buffer, sizeof buffer, Deadline::after(step_limit)));
  };
  wait_for_text("evil");
  write_all(open_file(home_ / "serial.log", O_WRONLY | O_APPEND).get(), "more\n", Deadline::never());
  wait_for_text("more\n");
  put("serial.log", "rotated\n");
  wait_for_text("rotated\n");
  process.send_signal(SIGINT);
  EXPECT_EQ(process.wait(Deadline::after(step_limit))->signal, SIGINT) << "which a shell calls 130";
}

TEST_F(Commands, ResultThatCannotBeWrittenIsAFailure) {
  const auto full = open_file("/dev/full", O_WRONLY);
  for (const auto& words : std::vector<std::vector<std::string>>{{"list"}, {"list", "--json"}, {"version"}, {"help"}}) {
    auto process_spec = spec(words);
    process_spec.fds[1] = full.get();
    auto process = Process::spawn(process_spec);
    const auto status = process.wait(Deadline::after(step_limit));
    ASSERT_TRUE(status);
    EXPECT_EQ(status->code, 4) << words[0] << ": " << status->describe();
  }
}

/// The folder may be one that a guest writes: what its .git/config names is not run, nor does it name the repository.
TEST_F(Commands, APlannedRunAsksOutsideTheFolderItStandsIn) {
  const auto git = [this](std::vector<std::string> words) {
    auto process = spec({});
    process.argv = {"git"};
    process.argv.insert(process.argv.end(), words.begin(), words.end());
    run_checked(process, Deadline::after(step_limit));
  };
  const auto canary = (home_ / "canary").string();
  git({"init", "-q", "-b", "trunk", "."});
  git({"init", "-q", "-b", "other", "there"});
  git({"-C", "there", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x"});
  git({"config", "core.sshCommand", "touch " + canary + " #"});
  git({"config", "credential.helper", "!touch " + canary});
  git({"config", "remote.ssh://127.0.0.1:1/x.url", "there"});
  git({"config", "remote.ssh://127.0.0.1:1/x.uploadpack", "touch " + canary + " #"});
  for (const std::string address : {"ssh://127.0.0.1:1/x", "ssh://127.0.0.1:1/y"}) {
    const auto asked = run({"plan", "run", "--repo", address, "--", "true"});
    EXPECT_EQ(asked.status.code, 3) << asked.err;
    EXPECT_NE(asked.err.find("git could not ask " + address + ": "), std::string::npos) << asked.err;
    EXPECT_NE(asked.err.find("Connection refused"), std::string::npos) << "git's own reason: " << asked.err;
    EXPECT_EQ(asked.err.find("exists.\\n"), std::string::npos) << "nor its last line's end: " << asked.err;
  }
  const auto secret = run({"plan", "run", "--repo", "http://me:token@127.0.0.1:1/x", "--", "true"});
  EXPECT_EQ(secret.status.code, 3);
  EXPECT_EQ(secret.err.find("token"), std::string::npos) << secret.err;
  EXPECT_FALSE(fs::exists(canary));
  EXPECT_EQ(json({"plan", "run", "--repo", "there", "--json", "--", "true"})["params"]["run"]["repository"]["head"],
            "other");
}

TEST_F(Commands, NothingButManagerCommandsStartsAManagerForHelp) {
  for (const auto& words : std::vector<std::vector<std::string>>{{"--version"},
                                                                 {"help"},
                                                                 {"help", "exec"},
                                                                 {"completion", "bash"},
                                                                 {"start", "--nonsense"},
                                                                 {"__complete", "--", "st"},
                                                                 {"manager", "status"}})
    run(words);
  EXPECT_TRUE(started().empty());
}

/// What bash offers for `line`, by its own machinery.
class Completion : public ClientTest {
 protected:
  std::set<std::string> offered(const std::string& line) const {
    const std::string script = R"sh(
source <("$1" completion bash)
COMP_LINE=$2 COMP_POINT=${#2}
# As readline splits: at blanks, = and : being words of their own.
read -ra COMP_WORDS <<<"$(sed -E 's/([=:])/ \1 /g' <<<"$2")"
[[ $2 == *' ' ]] && COMP_WORDS+=("")
COMP_WORDS[0]=$1
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_agentvm
printf '%s\n' "${COMPREPLY[@]}"
)sh";
    auto process_spec = spec({});
    process_spec.argv = {"/bin/bash", "-c", script, "bash", client(), line};
    const auto result = agentvm::run(process_spec, Deadline::after(step_limit));
    EXPECT_EQ(result.err, "");
    std::set<std::string> words;
    for (std::size_t start = 0; start < result.out.size();) {
      const auto end = std::min(result.out.find('\n', start), result.out.size());
      if (end > start) words.insert(result.out.substr(start, end - start));
      start = end + 1;
    }
    return words;
  }
};

using Words = std::set<std::string>;

TEST_F(Completion, OffersCommandsOptionsAndValues) {
  EXPECT_EQ(offered("agentvm st"), (Words{"start", "status", "stop"}));
  EXPECT_EQ(offered("agentvm image "), (Words{"build", "import", "list", "inspect", "remove", "prune"}));
  EXPECT_EQ(offered("agentvm start --netw"), (Words{"--network"}));
  EXPECT_EQ(offered("agentvm start --network "), (Words{"filtered", "nat", "none"}));
  EXPECT_EQ(offered("agentvm start --network=n"), (Words{"nat", "none"}));
  EXPECT_EQ(offered("agentvm start --no-n"), (Words{"--no-nested"}));
  EXPECT_EQ(offered("agentvm completion "), (Words{"bash", "zsh", "fish"}));
  EXPECT_EQ(offered("agentvm nonsense "), (Words{}));
}

TEST_F(Completion, OffersSandboxesImagesAndPathsWithoutAManager) {
  for (const auto* name : {"web", "web-2", "api", "Not_A_Name"})
    std::filesystem::create_directories(home_ / "state/sandboxes" / name);
  std::filesystem::create_directories(home_ / "data/images/abc");
  put("data/images/abc/image.json", R"({"name":"default"})");
  std::filesystem::create_directory(home_ / "some folder");
  put("some file", "");
  EXPECT_EQ(offered("agentvm exec we"), (Words{"web", "web-2"}));
  EXPECT_EQ(offered("agentvm exec web "), (Words{}));
  EXPECT_EQ(offered("agentvm image inspect "), (Words{"default"}));
  EXPECT_EQ(offered("agentvm start --image "), (Words{"default"}));
  EXPECT_EQ(offered("agentvm start so"), (Words{"some folder"}));
  EXPECT_EQ(offered("agentvm image build --recipe so"), (Words{"some folder", "some file"}));
  EXPECT_TRUE(started().empty());
}

TEST_F(Completion, ScriptsParse) {
  for (const auto* shell : {"bash", "zsh", "fish"}) {
    const auto program = find_program(shell);
    if (program.empty()) continue;
    const auto script = run({"completion", shell}).out;
    put("script", script);
    auto process_spec = spec({});
    process_spec.argv = {program, "-n", (home_ / "script").string()};
    const auto result = agentvm::run(process_spec, Deadline::after(step_limit));
    EXPECT_TRUE(result.status.ok()) << shell << ": " << result.err;
  }
}

}  // namespace
}  // namespace agentvm::test
