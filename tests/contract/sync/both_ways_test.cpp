// The branch rule where both sides go on: the host follows to another branch, its own commits go into the guest's
// clone, tags, renamed and rewritten branches. Real repositories, real receive-pack, the real child.

#include <fmt/format.h>
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
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class BothWays : public test::HostAndGuest {
 protected:
  SyncOutcome sync() { return sync(request()); }
  SyncOutcome sync(const SyncRequest& wanted) {
    auto outcome = sync_now(wanted, streams, no_progress(), Deadline::after(std::chrono::seconds(60)));
    host.fsck();
    for (const auto& entry : fs::directory_iterator(dir / "scratch"))
      EXPECT_THAT(entry.path().filename(), testing::AnyOf("sync.lock", "gate-shown.json"));
    return outcome;
  }
  SyncOutcome dry_run() {
    auto wanted = request();
    wanted.dry_run = true;
    return sync(wanted);
  }
  std::string mirror(const std::string& name) { return host.tip("refs/agentvm/box/" + name); }
  std::string host_branch() { return host.git({"symbolic-ref", "--short", "HEAD"}); }
  std::string guest_on(const std::string& branch, const std::string& file = "f.txt") {
    guest.git({"switch", "--quiet", "-c", branch});
    return guest.commit(file, branch + "\n");
  }

  FakeStreams streams;
};

TEST_F(BothWays, TheHostFollowsToABranchThatIsMissing) {
  const auto tip = guest_on("feature/x"), before = host.tip();
  const auto planned = dry_run();
  EXPECT_EQ(planned.branch, "feature/x");
  EXPECT_FALSE(planned.moved);
  EXPECT_EQ(host_branch(), "main");
  const auto outcome = sync();
  EXPECT_EQ(outcome.result, Result::updated);
  EXPECT_TRUE(outcome.moved) << to_text(outcome);
  EXPECT_EQ(outcome.switched_from, "main");
  EXPECT_EQ(outcome.commits, 1u);
  EXPECT_EQ(host_branch(), "feature/x");
  EXPECT_EQ(host.tip(), tip);
  EXPECT_EQ(host.tip("main"), before);
  EXPECT_EQ(host.read("f.txt"), "feature/x\n");
  EXPECT_EQ(host.status(), "");
  EXPECT_EQ(mirror("feature/x"), tip);
  EXPECT_THAT(to_text(outcome), HasSubstr("switched from main to feature/x"));
  EXPECT_EQ(sync().result, Result::up_to_date);
}

TEST_F(BothWays, TheHostFollowsToABranchThatIsBehind) {
  host.git({"branch", "work"});
  guest.git({"fetch", "--quiet"});
  guest.git({"switch", "--quiet", "work"});
  const auto tip = guest.commit("w.txt", "w\n");
  EXPECT_TRUE(sync().moved);
  EXPECT_EQ(host_branch(), "work");
  EXPECT_EQ(host.tip("work"), tip);
  // The user goes back, the guest has nothing more: nobody is moved.
  host.git({"switch", "--quiet", "main"});
  EXPECT_EQ(sync().result, Result::up_to_date);
  EXPECT_EQ(host_branch(), "main");
  guest.commit("w.txt", "w2\n");
  auto wanted = request();
  wanted.branch = "main";  // who asks for theirs stays on it
  EXPECT_FALSE(sync(wanted).moved);
  EXPECT_EQ(host_branch(), "main");
}

TEST_F(BothWays, ABranchThatBringsNothingIsNotFollowed) {
  host.git({"switch", "--quiet", "-c", "side"});
  host.commit("s.txt", "s\n");
  host.git({"switch", "--quiet", "main"});
  guest.git({"fetch", "--quiet"});
  guest.git({"switch", "--quiet", "side"});
  guest.git({"switch", "--quiet", "-c", "same-as-side"});
  EXPECT_EQ(sync().result, Result::up_to_date);
  EXPECT_EQ(host_branch(), "main");
  EXPECT_FALSE(host.git_ok({"rev-parse", "-q", "--verify", "refs/heads/same-as-side"}));
}

TEST_F(BothWays, UncommittedAndUntrackedWorkKeepsTheHostWhereItIs) {
  guest_on("feature", "new.txt");
  host.write("a.txt", "mine\n");
  auto outcome = sync();
  EXPECT_EQ(outcome.result, Result::dirty);
  EXPECT_EQ(outcome.exit_code(), 6);
  EXPECT_THAT(outcome.commands, Contains(HasSubstr("git stash && agentvm sync box")));
  host.git({"checkout", "--quiet", "a.txt"});
  host.write("new.txt", "precious\n");
  host.write(".git/info/exclude", "new.txt\n");
  outcome = sync();
  EXPECT_EQ(outcome.result, Result::dirty);
  EXPECT_THAT(outcome.conflicts, ElementsAre("new.txt"));
  EXPECT_EQ(host.read("new.txt"), "precious\n");
  EXPECT_EQ(host_branch(), "main");
  fs::remove(host.path() / "new.txt");
  EXPECT_TRUE(sync().moved);
}

TEST_F(BothWays, TheGateStandsBeforeTheOtherBranch) {
  guest_on("feature", ".envrc");
  const auto outcome = sync();
  EXPECT_EQ(outcome.result, Result::gated);
  EXPECT_EQ(host_branch(), "main");
  EXPECT_FALSE(host.git_ok({"rev-parse", "-q", "--verify", "refs/heads/feature"}));
  auto wanted = request();
  wanted.accept = true;
  EXPECT_TRUE(sync(wanted).moved);
  EXPECT_EQ(host_branch(), "feature");
}

TEST_F(BothWays, ABranchInAnotherWorkTreeIsLeftToIt) {
  host.git({"worktree", "add", "--quiet", "-b", "side", (dir / "side").string()});
  guest.git({"fetch", "--quiet"});
  guest.git({"switch", "--quiet", "side"});
  guest.commit("s.txt", "s\n");
  const auto before = host.tip("side");
  const auto outcome = sync();
  EXPECT_FALSE(outcome.moved);
  EXPECT_EQ(host.tip("side"), before);
  EXPECT_THAT(outcome.commands,
              ElementsAre("git -C " + (dir / "side").string() + " merge --ff-only refs/agentvm/box/side"));
}

TEST_F(BothWays, OwnNewsComeFirstThenTheOtherBranch) {
  const auto main_tip = guest.commit("m.txt", "m\n"), tip = guest_on("feature");
  const auto outcome = sync();
  EXPECT_EQ(outcome.branch, "main");
  EXPECT_EQ(host.tip("main"), main_tip);
  EXPECT_THAT(outcome.reason, HasSubstr("gone on to 'feature'"));
  EXPECT_THAT(outcome.commands, ElementsAre("agentvm sync box"));
  EXPECT_EQ(sync().branch, "feature");
  EXPECT_EQ(host_branch(), "feature");
  EXPECT_EQ(host.tip(), tip);
}

TEST_F(BothWays, HostCommitsGoIntoTheGuestsCloneAndItsCleanTree) {
  host.commit("h.txt", "host\n");
  const auto tip = host.commit("h.txt", "host 2\n"), before = guest.tip();
  const auto planned = dry_run();
  ASSERT_TRUE(planned.pushed);
  EXPECT_FALSE(planned.pushed->done);
  EXPECT_EQ(planned.pushed->commits, 2u);
  EXPECT_THAT(to_text(planned), HasSubstr("would send 2 commits"));
  EXPECT_EQ(guest.tip(), before);
  const auto outcome = sync();
  EXPECT_EQ(outcome.result, Result::up_to_date);
  EXPECT_EQ(outcome.exit_code(), 0);
  ASSERT_TRUE(outcome.pushed);
  EXPECT_TRUE(outcome.pushed->done) << to_text(outcome);
  EXPECT_EQ(guest.tip(), tip);
  EXPECT_EQ(guest.read("h.txt"), "host 2\n");
  EXPECT_EQ(guest.status(), "");
  EXPECT_EQ(mirror("main"), tip);
  EXPECT_EQ(to_json(outcome)["pushed"]["done"], true);
  guest.fsck();
  EXPECT_FALSE(sync().pushed);
}

TEST_F(BothWays, TheGuestsDirtyTreeIsRespected) {
  const auto before = guest.tip();
  host.commit("a.txt", "host\n");
  guest.write("a.txt", "not committed\n");
  const auto outcome = sync();
  EXPECT_EQ(outcome.exit_code(), 0);
  ASSERT_TRUE(outcome.pushed);
  EXPECT_FALSE(outcome.pushed->done);
  EXPECT_THAT(outcome.pushed->refusal, HasSubstr("unstaged changes"));
  EXPECT_EQ(guest.tip(), before);
  EXPECT_EQ(guest.read("a.txt"), "not committed\n");
  guest.git({"checkout", "--quiet", "a.txt"});
  EXPECT_TRUE(sync().pushed->done);
}

TEST_F(BothWays, UntrackedFilesOfTheGuestAreNotOverwritten) {
  host.commit("new.txt", "host\n");
  guest.write("new.txt", "the agent's\n");
  EXPECT_FALSE(sync().pushed->done);
  EXPECT_EQ(guest.read("new.txt"), "the agent's\n");
}

TEST_F(BothWays, ABranchThatTheGuestDoesNotHaveCheckedOutMovesAlone) {
  guest.git({"switch", "--quiet", "-c", "elsewhere"});
  guest.write("a.txt", "not committed\n");
  const auto tip = host.commit("h.txt", "host\n");
  EXPECT_TRUE(sync().pushed->done);
  EXPECT_EQ(guest.tip("main"), tip);
  EXPECT_EQ(guest.read("a.txt"), "not committed\n");
}

TEST_F(BothWays, NothingIsPushedWhereHistoriesDivergedOrWorkIsOnlyRescued) {
  host.commit("h.txt", "host\n");
  auto wanted = request();
  wanted.move = Move::references_only;
  EXPECT_FALSE(sync(wanted).pushed);
  const auto tip = guest.commit("g.txt", "guest\n");
  EXPECT_FALSE(sync().pushed);
  EXPECT_EQ(guest.tip(), tip);
  // Merged by the user, both are one again, by one sync.
  host.git({"merge", "--quiet", "--no-edit", "refs/agentvm/box/main"});
  EXPECT_TRUE(sync().pushed->done);
  EXPECT_EQ(guest.tip(), host.tip());
}

TEST_F(BothWays, ABranchInHandThatTheSandboxLacksIsMadeThere) {
  host.git({"switch", "--quiet", "-c", "topic/new"});
  host.commit("t.txt", "1\n");
  const auto tip = host.commit("t.txt", "2\n"), main_tip = guest.tip();
  const auto planned = dry_run();
  ASSERT_TRUE(planned.pushed);
  EXPECT_THAT(to_text(planned), HasSubstr("would send 2 commits of yours to the new branch topic/new"));
  EXPECT_FALSE(guest.git_ok({"rev-parse", "-q", "--verify", "refs/heads/topic/new"}));
  guest.write("a.txt", "not committed\n");  // it is on another branch: that is no hindrance
  auto wanted = request();
  wanted.branch = "topic/new";
  const auto outcome = sync(wanted);
  EXPECT_EQ(outcome.exit_code(), 0);
  ASSERT_TRUE(outcome.pushed);
  EXPECT_TRUE(outcome.pushed->done) << to_text(outcome);
  EXPECT_EQ(outcome.pushed->commits, 2u);
  EXPECT_EQ(outcome.pushed->old_tip, "");
  EXPECT_EQ(outcome.reason, "");
  EXPECT_EQ(guest.tip("topic/new"), tip);
  EXPECT_EQ(guest.tip(), main_tip);
  EXPECT_EQ(guest.read("a.txt"), "not committed\n");
  EXPECT_EQ(mirror("topic/new"), tip);
  guest.fsck();
  EXPECT_FALSE(sync().pushed);
  // The agent goes on with it, and so does its user.
  guest.git({"checkout", "--quiet", "a.txt"});
  guest.git({"switch", "--quiet", "topic/new"});
  guest.commit("t.txt", "3\n");
  EXPECT_TRUE(sync().moved);
}

TEST_F(BothWays, ABranchThatTheSandboxRemovedIsNotMadeAgainBeforeItGoesOn) {
  host.git({"switch", "--quiet", "-c", "topic"});
  host.commit("t.txt", "1\n");
  EXPECT_TRUE(sync().pushed->done);
  guest.git({"branch", "--quiet", "-D", "topic"});
  for (int round = 0; round < 2; ++round) {
    const auto outcome = sync();
    EXPECT_FALSE(outcome.pushed);
    ASSERT_EQ(outcome.apart.size(), 1u);
    EXPECT_EQ(outcome.apart[0].branch, "topic");
    EXPECT_EQ(outcome.apart[0].standing, Standing::removed);
  }
  const auto tip = host.commit("t.txt", "2\n");
  EXPECT_TRUE(sync().pushed->done);
  EXPECT_EQ(guest.tip("topic"), tip);
}

TEST_F(BothWays, BranchesThatAreNotInHandAreToldOfAndStayHere) {
  host.git({"branch", "side"});
  guest.git({"fetch", "--quiet", "origin", "side:side"});
  host.git({"branch", "mine"});
  host.git({"switch", "--quiet", "side"});
  host.commit("s.txt", "s\n");
  host.git({"switch", "--quiet", "main"});
  const auto before = guest.refs();
  const auto outcome = sync();
  EXPECT_EQ(outcome.result, Result::up_to_date);
  EXPECT_FALSE(outcome.pushed);
  EXPECT_EQ(guest.refs(), before);
  ASSERT_EQ(outcome.apart.size(), 2u) << to_text(outcome);
  EXPECT_EQ(outcome.apart[0].branch, "mine");
  EXPECT_EQ(outcome.apart[0].standing, Standing::missing);
  EXPECT_EQ(outcome.apart[1].branch, "side");
  EXPECT_EQ(outcome.apart[1].standing, Standing::behind);
  EXPECT_EQ(outcome.apart[1].commits, 1u);
  const auto json = to_json(outcome)["apart"];
  EXPECT_EQ(json[0], Json({{"branch", "mine"},
                           {"standing", "missing"},
                           {"tip", host.tip("mine")},
                           {"sandbox_tip", ""},
                           {"commits", 0},
                           {"conflicts", nullptr}}));
  EXPECT_EQ(json[1]["sandbox_tip"], guest.tip("side"));
  EXPECT_THAT(to_text(outcome), HasSubstr("your mine: missing in the sandbox"));
  // Who asks for one branch is told of that one.
  auto wanted = request();
  wanted.branch = "main";
  EXPECT_THAT(sync(wanted).apart, IsEmpty());
  wanted.branch = "mine";
  try {
    sync(wanted);
    ADD_FAILURE() << "the sandbox has no such branch";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::not_found);
    EXPECT_EQ(error.hint(), "git switch mine && agentvm sync box");
  }
}

TEST_F(BothWays, ASandboxWithoutACommitGetsTheFirstOne) {
  guest = Repo::init(dir / "empty");
  const auto outcome = sync();
  ASSERT_TRUE(outcome.pushed);
  EXPECT_TRUE(outcome.pushed->done) << to_text(outcome);
  EXPECT_EQ(outcome.exit_code(), 0);
  EXPECT_EQ(guest.tip(), host.tip());
  EXPECT_EQ(guest.read("a.txt"), "one\n");
  EXPECT_EQ(guest.status(), "");
}

TEST_F(BothWays, AThousandOwnCommitsAreSentOnce) {
  std::string script = "reset refs/heads/main\nfrom " + host.tip() + "\n\n";
  for (int i = 0; i < 1000; ++i)
    script += "commit refs/heads/main\ncommitter A <a@b> 1700000000 +0000\ndata 1\nx\nM 100644 inline f" +
              std::to_string(i % 100) + "\ndata <<E\n" + std::to_string(i) + "\nE\n\n";
  host.git({"fast-import", "--quiet"}, script);
  host.git({"reset", "--quiet", "--hard"});
  const auto outcome = sync();
  EXPECT_EQ(outcome.pushed->commits, 1000u);
  EXPECT_TRUE(outcome.pushed->done) << outcome.pushed->refusal;
  EXPECT_EQ(guest.tip(), host.tip());
}

/// A receive-pack that says what it likes.
FakeStreams hostile(const std::function<void(int io)>& talk) {
  return FakeStreams([talk](const guest::ExecSpec& spec) -> FakeStreams::Program {
    if (std::find(spec.argv.begin(), spec.argv.end(), "receive-pack") == spec.argv.end()) return {};
    return [talk](const guest::ExecSpec&, int io, int) {
      try {
        talk(io);
      } catch (const Error&) {  // the other end has had enough
      }
      return 0;
    };
  });
}

void say(int io, const std::string& payload) {
  write_all(io, fmt::format("{:04x}{}", payload.size() + 4, payload), Deadline::after(std::chrono::seconds(20)));
}

TEST_F(BothWays, AHostileReceivePackGetsNoWordThrough) {
  const auto old_tip = host.tip();
  const auto tip = host.commit("h.txt", "host\n");
  const auto capabilities = std::string(1, '\0') + "report-status";
  const auto flush = [](int io) { write_all(io, "0000", Deadline::after(std::chrono::seconds(20))); };
  const auto swallow = [](int io) {
    char buffer[65536];
    for (std::string seen; seen.find("PACK") == std::string::npos;) {
      const auto count = read_some(io, buffer, sizeof buffer, Deadline::after(std::chrono::seconds(20)));
      if (count == 0) return;
      seen.append(buffer, count);
    }
  };
  const auto advertise = [&](int io, const std::string& oid) {
    say(io, oid + " refs/heads/main" + capabilities);
    flush(io);
  };
  // Nor where a branch is to be made: it must not be there.
  {
    host.git({"switch", "--quiet", "-c", "made"});
    auto attacked = hostile([&](int io) {
      say(io, old_tip + " refs/heads/made" + capabilities);
      flush(io);
    });
    const auto outcome = sync_now(request(), attacked, no_progress(), Deadline::after(std::chrono::seconds(60)));
    ASSERT_TRUE(outcome.pushed);
    EXPECT_FALSE(outcome.pushed->done);
    EXPECT_THAT(outcome.pushed->refusal, HasSubstr("moved meanwhile"));
    host.git({"switch", "--quiet", "main"});
  }
  const std::vector<std::pair<std::string, std::function<void(int)>>> cases = {
      {"moved meanwhile", [&](int io) { advertise(io, tip); }},
      {"moved meanwhile",
       [&](int io) {
         say(io, old_tip + " refs/heads/other" + capabilities);
         flush(io);
       }},
      {"no reference", [&](int io) { say(io, "\x1b]0;x\x07"); }},
      {"something else than was sent",
       [&](int io) {
         advertise(io, old_tip);
         swallow(io);
         say(io, "unpack ok");
         say(io, "ok refs/heads/mine");
       }},
      {"does not end its report",
       [&](int io) {
         advertise(io, old_tip);
         swallow(io);
         for (int i = 0; i < 100; ++i) say(io, "unpack ok");
       }},
      {R"(\x1b[31mno\x9b)",
       [&](int io) {
         advertise(io, old_tip);
         swallow(io);
         say(io, "unpack ok");
         say(io, "ng refs/heads/main \x1b[31mno\xc2\x9b");
         flush(io);
       }},
      {"does not say why",
       [&](int io) {
         advertise(io, old_tip);
         swallow(io);
         flush(io);
       }},
  };
  for (const auto& [words, talk] : cases) {
    auto attacked = hostile(talk);
    const auto outcome = sync_now(request(), attacked, no_progress(), Deadline::after(std::chrono::seconds(60)));
    ASSERT_TRUE(outcome.pushed);
    EXPECT_FALSE(outcome.pushed->done) << words;
    EXPECT_THAT(outcome.pushed->refusal, HasSubstr(words));
    EXPECT_EQ(mirror("main"), old_tip);
    EXPECT_EQ(host.tip(), tip);
    for (const char byte : to_text(outcome) + dump_json(to_json(outcome)))
      EXPECT_TRUE(byte == '\n' || static_cast<unsigned char>(byte) >= 0x20);
  }
}

TEST_F(BothWays, TagsOfTheGuestAreKeptBesideItsBranches) {
  host.git({"tag", "-m", "known", "v0"});
  guest.git({"fetch", "--quiet", "--tags"});
  const auto tip = guest.commit("b.txt", "two\n");
  guest.git({"tag", "light"});
  guest.git({"tag", "-m", "Release", "rel/v1"});
  guest.git({"switch", "--quiet", "--detach"});
  const auto loose = guest.commit("only-tagged.txt", "x\n");
  guest.git({"tag", "only-tagged"});
  guest.git({"switch", "--quiet", "main"});
  const auto outcome = sync();
  EXPECT_TRUE(outcome.moved) << to_text(outcome);
  EXPECT_EQ(mirror("tags/light"), tip);
  EXPECT_EQ(mirror("tags/rel/v1"), guest.tip("rel/v1"));
  EXPECT_EQ(host.git({"cat-file", "-t", "refs/agentvm/box/tags/rel/v1"}), "tag");
  EXPECT_EQ(mirror("tags/only-tagged"), loose);
  EXPECT_FALSE(host.git_ok({"rev-parse", "-q", "--verify", "refs/agentvm/box/tags/v0"}));  // is the host's own
  EXPECT_EQ(host.git({"tag"}), "v0");
  EXPECT_EQ(sync().refs.size(), 0u);
  // Another object is another tag; one that goes stays here.
  guest.git({"tag", "--force", "light", loose});
  guest.git({"tag", "--delete", "rel/v1"});
  const auto again = sync();
  ASSERT_EQ(again.refs.size(), 1u);
  EXPECT_EQ(host.tip(again.refs[0].kept_as), tip);
  EXPECT_THAT(again.refs[0].kept_as, testing::EndsWith("/tags/light"));
  EXPECT_EQ(mirror("tags/light"), loose);
  EXPECT_EQ(host.git({"cat-file", "-t", "refs/agentvm/box/tags/rel/v1"}), "tag");
}

TEST_F(BothWays, TagsThatLeadToNoCommitAreRejectedByName) {
  guest.git({"tag", "tree", guest.tip("HEAD^{tree}")});
  guest.git({"tag", "-m", "a file", "blob", guest.tip("HEAD:a.txt")});
  guest.git({"tag", "fine"});
  const auto outcome = sync();
  ASSERT_EQ(outcome.rejected.size(), 2u) << to_text(outcome);
  for (const auto& ref : outcome.rejected) EXPECT_THAT(ref.reason, HasSubstr("leads to no commit"));
  EXPECT_EQ(mirror("tags/fine"), guest.tip());
}

TEST_F(BothWays, RenamedAndDeletedBranchesLoseNothing) {
  guest.git({"switch", "--quiet", "-c", "old-name"});
  const auto tip = guest.commit("w.txt", "w\n");
  auto wanted = request();
  wanted.branch = "main";
  sync(wanted);
  guest.git({"branch", "-m", "new-name"});
  const auto outcome = sync(wanted);
  EXPECT_EQ(mirror("old-name"), tip);
  EXPECT_EQ(mirror("new-name"), tip);
  EXPECT_THAT(outcome.gone, ElementsAre("old-name"));
  // The name comes back with another history: what it meant before is kept under its date.
  guest.git({"switch", "--quiet", "main"});
  guest.git({"switch", "--quiet", "-c", "old-name"});
  const auto other = guest.commit("v.txt", "v\n");
  const auto again = sync(wanted);
  EXPECT_EQ(mirror("old-name"), other);
  EXPECT_EQ(host.tip(again.refs.at(0).kept_as), tip);
}

TEST_F(BothWays, HistoryThatTheGuestRewroteIsTakenByAResetThatKeepsWork) {
  guest.commit("g.txt", "1\n");
  EXPECT_TRUE(sync().moved);
  guest.git({"commit", "--quiet", "--amend", "--message=again"});
  for (int round = 0; round < 2; ++round) {  // also when the references moved in an earlier sync
    const auto outcome = sync();
    EXPECT_EQ(outcome.result, Result::diverged);
    EXPECT_THAT(outcome.reason, HasSubstr("rewrote"));
    EXPECT_THAT(outcome.commands, Contains("git reset --keep refs/agentvm/box/main"));
  }
  const auto own = host.commit("h.txt", "mine\n");
  EXPECT_THAT(sync().commands, testing::Not(Contains(HasSubstr("reset"))));
  host.git({"reset", "--quiet", "--hard", own + "^"});
  host.git({"reset", "--keep", "refs/agentvm/box/main"});
  EXPECT_EQ(sync().result, Result::up_to_date);
}

TEST_F(BothWays, NamesThatHideOrReorderTextStayOutside) {
  for (const char* name : {"a\xe2\x80\xae"
                           "b",
                           "c\xc2\x9b"
                           "d",
                           "e\xe2\x80\x8b"})
    guest.git({"branch", name});
  guest.git({"tag", "t\xe2\x80\xae"});
  const auto outcome = sync();
  ASSERT_EQ(outcome.rejected.size(), 4u);
  for (const auto& ref : outcome.rejected) EXPECT_THAT(ref.reason, HasSubstr("hides or reorders"));
  const auto text = to_text(outcome) + dump_json(to_json(outcome));
  for (const char* bad : {"\xe2\x80", "\xc2\x9b"}) EXPECT_EQ(text.find(bad), std::string::npos);
}

TEST_F(BothWays, AGuestWhoseReferencesAreTheSameIsNotAskedAgain) {
  const auto in_state = [this](const std::string& state) {
    auto wanted = request();
    wanted.guest_state = state;
    const auto asked = streams.executed().size();
    const auto outcome = sync_now(wanted, streams, no_progress(), Deadline::after(std::chrono::seconds(60)));
    return std::pair(outcome, streams.executed().size() > asked);
  };
  guest.git({"tag", "v1"});
  EXPECT_TRUE(in_state("1").second);
  EXPECT_FALSE(in_state("1").second);
  const auto tip = guest.commit("b.txt", "two\n");
  EXPECT_EQ(in_state("1").first.result, Result::up_to_date);  // a guest that lies keeps its work to itself
  const auto [outcome, asked] = in_state("2");
  EXPECT_TRUE(asked && outcome.moved);
  EXPECT_EQ(host.tip(), tip);
  // What the user does meanwhile is seen: own commits go out, and the branch that went back comes forward again.
  host.git({"reset", "--quiet", "--hard", "HEAD~1"});
  EXPECT_TRUE(in_state("2").first.moved);
  EXPECT_FALSE(in_state("2").second);
  host.commit("h.txt", "host\n");
  EXPECT_TRUE(in_state("2").first.pushed->done);
  EXPECT_TRUE(in_state("2").second);  // the mirror has gone on
  // Not what is remembered counts, but what is still here.
  EXPECT_FALSE(in_state("2").second);
  host.git({"update-ref", "-d", "refs/agentvm/box/tags/v1"});
  EXPECT_TRUE(in_state("2").second);
  EXPECT_EQ(mirror("tags/v1"), guest.tip("v1"));
  write_file_atomic(dir / "scratch/guest-state.json",
                    R"({"state":"2","verdict":{"refs":[{"branch":"../x","tip":"1"}]}})");
  EXPECT_TRUE(in_state("2").second);
  EXPECT_TRUE(in_state("").second);
  EXPECT_FALSE(fs::exists(dir / "scratch/guest-state.json"));
}

}  // namespace
}  // namespace agentvm::sync
