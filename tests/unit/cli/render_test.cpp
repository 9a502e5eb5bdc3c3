#include "cli/render/render.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "cli/render/help.hpp"
#include "cli/render/redact.hpp"
#include "vmm/config.hpp"

namespace agentvm::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

const Style plain{};

const Json status = Json::parse(
    R"({"schema":"agentvm.status/1","name":"web","state":"running","reason":"user","message":"","project":"/src/web",
  "branch":"main","backend":"libvirt","accelerator":"tcg","uptime_seconds":3725,"memory_bytes":8589934592,"vcpus":4,"disk_bytes":1572864,"nested":true,
  "network":"filtered","workspace_mode":"virtiofs","ssh":{"host":"127.0.0.1","port":40022,"user":"agent"},"ports":[],
  "worktrees":[{"branch":"fix","path":"/workspace/fix","session":"s","pending_commits":1}],
  "sync":{"mode":"manual","last_time":"2026-01-31T08:09:10Z","last_result":"updated","pending_commits":2},"id":"abc"})");

TEST(Render, Status) {
  EXPECT_EQ(render_status(status, plain, false),
            "Sandbox:    web\n"
            "State:      running (user)\n"
            "Project:    /src/web\n"
            "Branch:     main\n"
            "Uptime:     1h 2m\n"
            "Backend:    libvirt, tcg\n"
            "Memory:     8G\n"
            "vCPUs:      4\n"
            "Disk:       1.5M\n"
            "Nested:     yes\n"
            "Network:    filtered\n"
            "Workspace:  virtiofs\n"
            "SSH:        agent@127.0.0.1 port 40022\n"
            "Sync:       manual, last updated at 2026-01-31T08:09:10Z, 2 commits not yet on the host\n"
            "Worktree:   fix at /workspace/fix, 1 commit pending\n");
  EXPECT_THAT(render_status(status, plain, true), HasSubstr("id:         abc\n"));
}

TEST(Render, PortsAndWhereTheyAre) {
  const Json answer = Json::parse(R"({"name":"web","ports":[
      {"port":3000,"process":"node\u001b[31m","url":"http://3000.web.localhost:8080/","primary":true},
      {"port":8000,"process":"","url":null,"primary":false}]})");
  const auto text = render_ports(answer, plain, 0);
  EXPECT_THAT(text, HasSubstr("http://3000.web.localhost:8080/  (primary)"));
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  EXPECT_THAT(text, Not(HasSubstr("WORKTREE")));
  const auto with_worktree = Json::parse(R"({"name":"web","ports":[
      {"port":3000,"process":"node","worktree":null,"url":"http://3000.web.localhost:8080/","primary":true},
      {"port":3001,"process":"node","worktree":"feature/x","url":"http://3001.f.web.localhost:8080/","primary":false}]})");
  EXPECT_THAT(render_ports(with_worktree, plain, 0),
              testing::MatchesRegex(
                  "PORT +PROCESS +WORKTREE +URL\n3000 +node +http:[^\n]*\n3001 +node +feature/x +http:[^\n]*\n"));
  EXPECT_THAT(text, Not(HasSubstr("SAME PORT")));
  const auto same_port = Json::parse(R"({"name":"web","ports":[
      {"port":80,"url":"u","primary":false,"same_port_url":null,"same_port_problem":"it is below 1024"},
      {"port":3000,"url":"v","primary":false,"same_port_url":"http://web.localhost:3000/","same_port_problem":""}]})");
  EXPECT_THAT(render_ports(same_port, plain, 0),
              testing::AllOf(HasSubstr("SAME PORT\n"), HasSubstr("- (it is below 1024)\n"),
                             HasSubstr("http://web.localhost:3000/\n")));
  EXPECT_EQ(render_ports(Json::parse(R"({"ports":[]})"), plain, 0), "");
  const auto shown = render_status(answer, plain, false);
  EXPECT_THAT(shown, HasSubstr("http://3000.web.localhost:8080/"));
  EXPECT_THAT(shown, HasSubstr("8000"));
}

TEST(Render, StatusOfNearlyNothing) {
  EXPECT_EQ(render_status(Json::parse(R"({"name":"x","state":"failed","message":"no\u001b[2Jkernel","ssh":null})"),
                          plain, true),
            "Sandbox:  x\nState:    failed\nMessage:  no\\x1b[2Jkernel\n");
  // Whatever arrives, rendering does not throw.
  for (const auto* text :
       {"null", "[]", "7", R"({"name":7,"state":[],"sync":1,"ssh":"x","worktrees":{"a":1},"memory_bytes":"8G"})"}) {
    const auto odd = Json::parse(text);
    EXPECT_NO_THROW({
      render_status(odd, plain, true);
      render_ports(odd, plain, 0);
      render_status_all(odd, plain, true);
      render_list(odd, plain, 80);
      render_timing(odd, plain);
      render_sync(odd, plain);
      render_images(odd, plain, 80);
      render_image(odd, plain);
      render_plan(odd, plain, 80);
      render_plan({{"run", odd}}, plain, 80);
      render_config(odd, plain, 80);
      render_doctor(odd, plain);
      render_manager_status(odd, plain);
      render_losses(odd);
      render_worktrees(odd, plain, 80);
      render_wip(odd, plain, 80);
      render_wip_patch(odd, plain);
      render_wip_apply(odd, plain);
      render_disk_files(odd, plain);
    }) << text;
  }
}

TEST(Render, PatchesOfUncommittedWorkAreClean) {
  const auto answer =
      Json::parse(R"({"name":"20260131T080910Z","sandbox":"web","time":"2026-01-31T08:09:10Z","branch":"x\u001b[2J",
    "base":"0123456789abcdef","ref":"refs/agentvm/web/wip/20260131T080910Z","stat":" a | 1 +\n","cut":true,
    "patch":"diff --git a/a b/a\n+\u001b]0;title\u0007\n"})");
  const auto text = render_wip_patch(answer, plain);
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_EQ(text.find('\x07'), std::string::npos);
  EXPECT_NE(text.find("+\\x1b]0;title\\x07\n"), std::string::npos) << text;
  EXPECT_NE(text.find("git show refs/agentvm/web/wip/"), std::string::npos);
}

TEST(Render, FilesOfADisk) {
  const auto text = render_disk_files(Json::parse(R"({"entries":[
    {"name":"a","kind":"file","mode":"0644","uid":1000,"gid":7,"size":2048,"modified":"2026-01-31T08:09:10Z","target":""},
    {"name":"l","kind":"link","mode":"0777","uid":0,"gid":0,"size":4,"modified":"2026-01-31T08:09:10Z","target":"x\u001b[2J"}]})"),
                                      plain);
  EXPECT_THAT(text, HasSubstr("file  0644  1000:7  2K    2026-01-31T08:09:10Z  a\n"));
  EXPECT_THAT(text, HasSubstr("link  0777  0:0     -     2026-01-31T08:09:10Z  l -> x\\x1b[2J\n"));
}

TEST(Render, WhatADestroyWouldLose) {
  using testing::ElementsAre;
  EXPECT_THAT(render_losses(Json::parse(R"({"name":"web","state":"running","asked":true,"kept_wip":2,
    "worktrees":[{"pending_commits":1,"uncommitted_files":2},{"pending_commits":1,"uncommitted_files":1}]})")),
              ElementsAre(HasSubstr("2 commits and uncommitted changes in 3 files; they are kept"),
                          HasSubstr("lost: what runs"), HasSubstr("2 snapshots")));
  EXPECT_THAT(
      render_losses(Json::parse(R"({"name":"web","state":"failed","unsaved":true,"reason":"crash","kept_commits":1})")),
      ElementsAre(HasSubstr("(crash); its files are read, and kept"), HasSubstr("lost: ignored"),
                  HasSubstr("1 commit in refs/agentvm/web/")));
  EXPECT_THAT(render_losses(Json::parse(R"({"name":"web","state":"running","asked":false,"problem":"no answer"})"))[0],
              HasSubstr("does not say"));
}

TEST(Render, List) {
  const auto answer = Json::parse(R"({"sandboxes":[
    {"name":"web","state":"running","backend":"libvirt","uptime_seconds":90,"project":"/src/web"},
    {"name":"a-long-name","state":"stopped","backend":"libvirt","uptime_seconds":0,"project":"/src/\u001b]0;x"}],
    "broken":[{"name":"odd","error":"record.json: not valid JSON"}]})");
  EXPECT_EQ(render_list(answer, plain, 0),
            "SANDBOX      STATE       BACKEND  UPTIME  PROJECT\n"
            "web          running     libvirt  1m 30s  /src/web\n"
            "a-long-name  stopped     libvirt  -       /src/\\x1b]0;x\n"
            "odd          unreadable  -        -       record.json: not valid JSON\n");
  EXPECT_EQ(render_list(Json::parse(R"({"sandboxes":[]})"), plain, 0), "");
}

TEST(Render, TheListIsAnInboxWhereThereIsSomethingInIt) {
  const auto answer = Json::parse(R"({"sandboxes":[
    {"name":"web","state":"running","backend":"libvirt","uptime_seconds":90,"project":"/src/web","pending_commits":2,
     "agent":{"name":"claude","state":"waiting","since_seconds":61}},
    {"name":"api","state":"running","backend":"libvirt","uptime_seconds":90,"project":"/src/api","pending_commits":null,
     "agent":{"name":"codex","state":"ended","exit_code":3,"since_seconds":5}},
    {"name":"ui","state":"running","backend":"libvirt","uptime_seconds":9,"project":"/src/ui","pending_commits":0,"agent":null},
    {"name":"new","state":"stopped","backend":"libvirt","uptime_seconds":0,"project":"/src/new",
     "agent":{"name":"claude","state":null}}],
    "broken":[{"name":"odd","error":"unreadable"}]})");
  EXPECT_EQ(render_list(answer, plain, 0),
            "SANDBOX  STATE       AGENT                 COMMITS  BACKEND  UPTIME  PROJECT\n"
            "web      running     claude waiting 1m 1s  2        libvirt  1m 30s  /src/web\n"
            "api      running     codex ended (3) 5s    -        libvirt  1m 30s  /src/api\n"
            "ui       running     -                     -        libvirt  9s      /src/ui\n"
            "new      stopped     claude                -        libvirt  -       /src/new\n"
            "odd      unreadable  -                     -        -        -       unreadable\n");
}

TEST(Redactor, HidesWholeWordsLongestFirst) {
  Redactor redactor;
  redactor.hide("ann", "<user>");
  redactor.hide("/home/ann", "~");
  redactor.hide("/home/ann/secret-project", "<project>");
  redactor.hide("io", "never");
  EXPECT_EQ(redactor.apply("/home/ann/secret-project/x /home/ann/y /home/anna ann planned ann,"),
            "<project>/x ~/y /home/anna <user> planned <user>,");
  EXPECT_EQ(redactor.apply("io"), "io");
}

TEST(Render, ABugReportNamesNobody) {
  BugReport report;
  report.doctor =
      Json::parse(R"({"checks":[{"id":"disk","status":"fail","finding":"full below /home/ann/state","remedy":"rm"}]})");
  report.status = Json::parse(
      R"({"sandboxes":[{"name":"acme-web","state":"failed","reason":"crash","message":"acme-web: /home/ann/acme ended",
    "project":"/home/ann/acme","branch":"ann/merger","backend":"libvirt","accelerator":"tcg","memory_bytes":1073741824,"vcpus":2,
    "workspace_mode":"virtiofs","network":"filtered","nested":true}]})");
  report.config = Json::parse(R"({"keys":[
    {"name":"memory","value":"1G","type":"size","text":"1G","origin":{"layer":"user"}},
    {"name":"vcpus","value":2,"type":"count","text":"2","origin":{"layer":"user"}},
    {"name":"network","value":"nat","type":"choice","text":"nat","origin":{"layer":"flag"}},
    {"name":"nested","value":true,"type":"boolean","text":"true","origin":{"layer":"default"}},
    {"name":"egress.allow","value":["internal.acme.example"],"type":"hosts","text":"internal.acme.example","origin":{"layer":"user"}},
    {"name":"notify","value":"curl https://acme.example","type":"text","text":"curl","origin":{"layer":"user"}}]})");
  report.version = "1.2.3";
  report.system = "Debian, Linux 6.1 x86_64";
  report.log =
      "2026-01-01T00:00:00.000Z info sandbox: merger-lab is stopped (user) \nacme-web is failed (crash) on box7 for "
      "ann\nmerger-lab\n";
  report.log += "read '/home/ann/secret/x y': no\n";
  report.user = "ann";
  report.host = "box7";
  report.folders = {{"/home/ann", "~"}, {"/home/ann/state", "<state>"}};
  const auto text = render_bug_report(report);
  for (const char* hidden : {"ann", "acme", "box7", "merger", "internal", "curl", "secret"})
    EXPECT_EQ(text.find(hidden), std::string::npos) << hidden << " in\n" << text;
  for (const char* shown :
       {"# agentvm 1.2.3", "Debian, Linux 6.1", "full below <state>", "sandbox-1: failed (crash), libvirt tcg, 1G",
        "sandbox-1: <project-1> ended", "vcpus = 2  (user)", "network = nat  (flag)", "egress.allow = 1 entry",
        "notify = (set)", "sandbox-1 is failed (crash) on <host> for <user>"})
    EXPECT_NE(text.find(shown), std::string::npos) << shown << " in\n" << text;
  EXPECT_EQ(text.find("nested ="), std::string::npos) << "defaults are known";
}

TEST(Render, TableCutsItsLastColumnAndCountsCharacters) {
  Table table({"A", "B"});
  table.add({{"\xC3\xBC"}, {"0123456789abcdef"}});
  EXPECT_EQ(table.text(plain, 13), "A  B\n\xC3\xBC  012345678~\n");
  EXPECT_EQ(table.text(Style{true}), "\x1b[1mA\x1b[0m  \x1b[1mB\x1b[0m\n\xC3\xBC  0123456789abcdef\n");
}

TEST(Render, Sync) {
  EXPECT_EQ(
      render_sync(
          Json::parse(
              R"({"result":"updated","moved":true,"branch":"main","old_tip":"0123456789abcdef","new_tip":"fedcba9876543210","commits":2,
    "files_changed":1,"insertions":3,"deletions":4,"log":[{"id":"fedcba9876543210","subject":"Fix\u202eit"}],
    "refs":[{"name":"refs/agentvm/web/main","new":"fedcba9876543210","kept_as":""}]})"),
          plain),
      "main updated: 2 commits, 1 file changed, +3 -4 (0123456789..fedcba9876)\n"
      "  fedcba9876 Fix\\u{202e}it\n"
      "  refs/agentvm/web/main fedcba9876\n");
  EXPECT_EQ(
      render_sync(
          Json::parse(
              R"({"result":"diverged","branch":"main","reason":"both sides have commits","commands":["git merge x","git rebase x"]})"),
          plain),
      "main not moved (diverged): both sides have commits\nnext:  git merge x\n   or: git rebase x\n");
  EXPECT_EQ(render_sync(Json::parse(R"({"result":"up-to-date","branch":"main","reason":"nothing new"})"), plain),
            "main is up to date\n");
}

TEST(Render, SyncTellsOfBranchesThatTheSandboxHasNoMore) {
  EXPECT_EQ(render_sync(Json::parse(R"({"result":"up-to-date","sandbox":"web","branch":"main","reason":"",
    "gone":["old-name","x\u009by"],"apart":[{"branch":"old-name","standing":"removed"}]})"),
                        plain),
            "main is up to date\n"
            "  no more in the sandbox, kept in refs/agentvm/web: old-name, x\\x9by\n");
}

TEST(Render, SyncTellsOfBranchesThatTheSandboxHasOtherwise) {
  EXPECT_EQ(render_sync(Json::parse(R"({"result":"up-to-date","branch":"main","reason":"",
    "pushed":{"branch":"made","old_tip":"","new_tip":"1","commits":2,"done":true,"refusal":""},
    "apart":[{"branch":"a","standing":"missing"},{"branch":"b\u001b[2J","standing":"missing"},
             {"branch":"c","standing":"missing"},{"branch":"d","standing":"missing"},
             {"branch":"e","standing":"missing"},{"branch":"f","standing":"missing"},
             {"branch":"s","standing":"behind","commits":3},{"branch":"t","standing":"removed"},
             {"branch":"v","standing":"diverged","conflicts":["x\u001b","y"]},
             {"branch":"w","standing":"diverged","conflicts":[]},
             {"branch":"x","standing":"diverged","conflicts":null},
             {"branch":"u","standing":"different"}]})"),
                        plain),
            "main is up to date\n"
            "  sent 2 commits of yours to the sandbox, as its new branch made\n"
            "  only here, not in the sandbox: a, b\\x1b[2J, c, d, e and 1 more\n"
            "  further here than in the sandbox: s (+3)\n"
            "    a branch goes there when you have it checked out\n"
            "  v went on both here and in the sandbox; 2 files would conflict: x\\x1b, y\n"
            "  w went on both here and in the sandbox; they would merge without a conflict\n"
            "  x went on both here and in the sandbox\n"
            "  here, and removed in the sandbox: t\n"
            "  not the same here and in the sandbox: u\n");
}

TEST(Render, DoctorCountsAndNamesRemedies) {
  const auto text =
      render_doctor(Json::parse(R"({"ok":false,"checks":[{"id":"kvm","status":"warn","finding":"slow","remedy":"buy"},
    {"id":"disk","status":"fail","finding":"full","remedy":"rm"},{"id":"git","status":"pass","finding":"2.39","remedy":"never shown"}]})"),
                    plain);
  EXPECT_EQ(text,
            "warn  kvm  slow\n      try: buy\nfail  disk  full\n      try: rm\npass  git  2.39\n\n1 check failed: a "
            "start would fail too\n");
  EXPECT_THAT(render_doctor(Json::parse(R"({"ok":true,"checks":[]})"), plain), HasSubstr("Ready"));
}

TEST(Render, ConfigAndPlanNameTheOrigin) {
  const auto config = Json::parse(
      R"({"keys":[{"name":"memory","value":4294967296,"type":"size","origin":{"layer":"project","file":"/r/agentvm.yaml","line":3,"column":9}},
    {"name":"egress.allow","value":["a.example","b.example"],"type":"hosts","origin":{"layer":"default"}},
    {"name":"branch","value":null,"type":"branch","origin":{"layer":"flag","source":"--branch"}}]})");
  EXPECT_EQ(render_config(config, plain, 0),
            "KEY           VALUE                 FROM\n"
            "memory        4G                    /r/agentvm.yaml:3:9\n"
            "egress.allow  a.example, b.example  default\n"
            "branch        -                     --branch\n");
}

TEST(Render, TimingAddsUp) {
  EXPECT_EQ(
      render_timing(
          Json::parse(
              R"([{"phase":"boot","milliseconds":1500,"median_milliseconds":1000},{"phase":"ssh","milliseconds":250}])"),
          plain),
      "PHASE  SECONDS  MEDIAN HERE\nboot   1.50     1.00\nssh    0.25     -\ntotal  1.75\n");
}

TEST(Render, NumbersForPeople) {
  EXPECT_EQ(duration(0), "0s");
  EXPECT_EQ(duration(59), "59s");
  EXPECT_EQ(duration(3600), "1h 0m");
  EXPECT_EQ(duration(90000), "1d 1h");
  EXPECT_EQ(size(0), "0");
  EXPECT_EQ(size(1023), "1023");
  EXPECT_EQ(size(1536), "1.5K");
  EXPECT_EQ(size(8ll << 30), "8G");
  EXPECT_EQ(counted(1, "commit"), "1 commit");
}

TEST(Help, OverviewNamesEveryCommandAndNothingHidden) {
  const auto text = help_overview(plain);
  for (const auto& command : command_table())
    EXPECT_EQ(text.find("  " + command.name) != std::string::npos, !command.hidden) << command.name;
}

TEST(Help, EveryDocumentCoversEveryCommandAndOption) {
  const auto markdown = reference_markdown(), man = man_page();
  for (const auto& command : command_table()) {
    if (command.hidden) continue;
    const auto help = help_command_text(command, plain);
    EXPECT_THAT(markdown, HasSubstr("### agentvm " + command.name + "\n"));
    for (const auto& option : command.options) {
      if (option.hidden) continue;
      EXPECT_THAT(help, HasSubstr(option_text(option))) << command.name;
      EXPECT_THAT(markdown, HasSubstr("`" + option_text(option) + "`")) << command.name;
    }
  }
  EXPECT_THAT(man, HasSubstr("\\-\\-no\\-attach"));
  EXPECT_THAT(help_command_text(*find_command("exec"), plain),
              HasSubstr("Usage: agentvm exec [NAME] [options] -- CMD..."));
}

TEST(Help, ManPagesAreValidTroff) {
  // Every line that begins with a dot is a macro that man(7) knows.
  const std::set<std::string> known = {".TH", ".SH", ".SS", ".PP", ".TP", ".B", ".BR", ".I", ".EX", ".EE", ".nh"};
  const auto man = man_page() + configuration_man_page();
  for (const auto& key : config_keys()) EXPECT_THAT(man, HasSubstr(fmt::format("\n.B {}\n", key.name)));
  for (std::size_t start = 0; start < man.size();) {
    const auto end = std::min(man.find('\n', start), man.size());
    const auto line = man.substr(start, end - start);
    if (line.starts_with(".")) {
      EXPECT_TRUE(known.contains(line.substr(0, line.find(' ')))) << line;
    }
    start = end + 1;
  }
}

TEST(CompleteWords, FollowTheTable) {
  const auto words = [](const std::vector<std::string>& line) {
    std::set<std::string> result;
    for (const auto& [word, help] : complete_words(line)) result.insert(word);
    return result;
  };
  using Set = std::set<std::string>;
  EXPECT_TRUE(words({}).contains("start"));
  EXPECT_FALSE(words({""}).contains("__complete"));
  EXPECT_EQ(words({"image", "re"}), (Set{"remove"}));
  EXPECT_EQ(words({"exec", ""}), (Set{"@sandbox"}));
  EXPECT_EQ(words({"exec", "box", "--", "x"}), (Set{"@file"}));
  EXPECT_EQ(words({"list", "--state=ru"}), (Set{"--state=running"}));
  EXPECT_EQ(words({"stop", "--al"}), (Set{"--all"}));
  EXPECT_EQ(words({"help", "image", ""}), (Set{"build", "import", "list", "inspect", "remove", "prune"}));
  EXPECT_EQ(words({"nonsense", "more", ""}), (Set{}));
  // Every option of every command is offered.
  for (const auto& command : command_table()) {
    if (command.hidden) continue;
    std::vector<std::string> line;
    for (std::size_t start = 0; start <= command.name.size();) {
      const auto space = std::min(command.name.find(' ', start), command.name.size());
      line.push_back(command.name.substr(start, space - start));
      start = space + 1;
    }
    line.push_back("--");
    for (const auto& option : command.options)
      EXPECT_EQ(words(line).contains("--" + option.name), !option.hidden) << command.name << " " << option.name;
  }
}

}  // namespace
}  // namespace agentvm::cli
