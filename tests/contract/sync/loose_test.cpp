// A few commits come home without git in the guest: what lands is what git would have brought, and where loose objects
// do not do, or are not what they say, git is asked as ever.
#include <random>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "sync/git/pkt_line.hpp"
#include "sync/loose_relay.hpp"
#include "sync/quarantine.hpp"
#include "tests/contract/sync/hostile_server.hpp"
#include "tests/contract/sync/sync_fixture.hpp"
#include "tests/support/fake_streams.hpp"
#include "tests/support/loose_reader.hpp"
#include "tests/support/stopped_clock.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::sync {
namespace {

using test::FakeStreams;
using test::Repo;

const auto patience = std::chrono::seconds(60);

class LooseTest : public test::HostAndGuest {
 protected:
  LooseTest() { source = test::reader_of(guest.path()); }

  SyncOutcome sync() {
    auto wanted = request();
    wanted.loose = source;
    wanted.clock = &clock;
    executed_before = streams.executed().size();
    return sync_now(wanted, streams, no_progress(), Deadline::after(patience));
  }
  /// By the last sync.
  bool git_was_asked() const { return streams.executed().size() > executed_before; }

  /// What the child makes of the source alone.
  std::optional<FetchVerdict> fetch(SyncLimits limits = {}) {
    const auto opened = open_host_repository(host.path(), Deadline::after(patience));
    Quarantine quarantine(dir / "scratch", opened, "refs/agentvm/box/", limits, Deadline::after(patience));
    auto verdict = quarantine.fetch_loose(source, AGENTVM_TEST_LIBEXEC, no_progress(), Deadline::after(patience));
    if (!verdict) {
      EXPECT_TRUE(fs::is_empty(quarantine.objects() / "pack")) << "git would think that it is here";
    }
    return verdict;
  }

  LooseSource source;
  test::StoppedClock clock;  // old tips are named after the time
  FakeStreams streams;
  std::size_t executed_before = 0;
};

TEST_F(LooseTest, OneCommitComesWithoutGit) {
  const auto tip = guest.commit("sub/dir/b.txt", "two\n");
  const auto outcome = sync();
  EXPECT_FALSE(git_was_asked());
  EXPECT_EQ(outcome.result, Result::updated);
  EXPECT_EQ(outcome.objects, 5u);  // a commit, three folders, a file
  EXPECT_EQ(host.tip(), tip);
  EXPECT_EQ(host.read("sub/dir/b.txt"), "two\n");
  host.fsck();
  EXPECT_EQ(sync().result, Result::up_to_date);
  EXPECT_FALSE(git_was_asked());
}

struct Scenario {
  const char* name;
  const char* script;  ///< in the guest's clone
  bool by_git;         ///< loose objects do not do
};

void PrintTo(const Scenario& scenario, std::ostream* out) {
  *out << scenario.name;
}

class SameAsGit : public LooseTest, public testing::WithParamInterface<Scenario> {};

TEST_P(SameAsGit, Lands) {
  guest.commit("sub/b.txt", "two\n");
  sync();
  ProcessSpec spec;
  spec.argv = {"sh", "-ec", GetParam().script};
  spec.cwd = guest.path().string();
  spec.env = std::map<std::string, std::string>{{"PATH", std::getenv("PATH")}, {"HOME", dir.path()},
                                                {"GIT_AUTHOR_NAME", "A"},      {"GIT_AUTHOR_EMAIL", "a@b"},
                                                {"GIT_COMMITTER_NAME", "A"},   {"GIT_COMMITTER_EMAIL", "a@b"},
                                                {"GIT_CONFIG_NOSYSTEM", "1"}};
  const auto ran = run(spec, Deadline::after(patience));
  ASSERT_TRUE(ran.status.ok()) << ran.err;
  fs::copy(host.path(), dir / "twin", fs::copy_options::recursive | fs::copy_options::copy_symlinks);
  const Repo twin(dir / "twin");
  std::string words, twin_words;
  SyncOutcome outcome, twin_outcome;
  const auto attempt = [](auto body, std::string& problem) {
    try {
      body();
    } catch (const Error& error) {
      problem = error.what();
    }
  };
  attempt([&] { outcome = sync(); }, words);
  EXPECT_EQ(git_was_asked(), GetParam().by_git);
  attempt(
      [&] {
        auto wanted = request();
        wanted.repository = twin.path();
        wanted.scratch = dir / "twin-scratch";
        wanted.clock = &clock;
        FakeStreams others;
        twin_outcome = sync_now(wanted, others, no_progress(), Deadline::after(patience));
      },
      twin_words);
  // How much of what git said arrives before its end is a race of its own.
  const auto without_git = [](const std::string& text) { return text.substr(0, text.find(" (the guest's git said:")); };
  EXPECT_EQ(without_git(words), without_git(twin_words));
  EXPECT_EQ(outcome.result, twin_outcome.result);
  EXPECT_EQ(outcome.rejected.size(), twin_outcome.rejected.size());
  EXPECT_EQ(host.refs(), twin.refs());
  EXPECT_EQ(host.status(), twin.status());
  host.fsck();
}

INSTANTIATE_TEST_SUITE_P(
    LooseTest, SameAsGit,
    testing::Values(
        Scenario{"several_commits", "for i in 1 2 3 4 5; do echo $i >c; git add c; git commit -qm $i; done", false},
        Scenario{"a_deep_folder", "mkdir -p a/b/c/d/e; echo x >a/b/c/d/e/f; git add .; git commit -qm x", false},
        Scenario{"an_empty_commit", "git commit -q --allow-empty -m x", false},
        Scenario{
            "a_merge",
            "git switch -qc side HEAD~1; echo x >x; git add x; git commit -qm x; git switch -q main; git merge -q side",
            false},
        Scenario{"another_branch", "git switch -qc topic/one; echo x >x; git add x; git commit -qm x", false},
        Scenario{"a_rewritten_branch", "echo x >>a.txt; git commit -qa --amend -m again", false},
        Scenario{"a_branch_that_went", "git branch gone; git branch -D gone", false},
        Scenario{"tags",
                 "git tag light; git tag -am words heavy; echo x >x; git add x; git commit -qm x; git tag -am w two",
                 false},
        Scenario{"packed_references",
                 "echo x >x; git add x; git commit -qm x; git tag t; git pack-refs --all; git branch later", false},
        Scenario{"a_detached_head", "git checkout -q --detach; echo x >x; git add x; git commit -qm x; git branch here",
                 false},
        Scenario{"a_link_and_a_program", "ln -s a.txt l; echo x >p; chmod +x p; git add .; git commit -qm x", false},
        Scenario{"a_submodule", "git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),m; git commit -qm x",
                 false},
        Scenario{"a_file_that_came_back", "git mv a.txt z; git commit -qm x; git mv z a.txt; git commit -qm y", false},
        Scenario{"a_reserved_name", "git update-ref refs/heads/old/x HEAD; echo x >x; git add x; git commit -qm x",
                 false},
        Scenario{"a_tag_of_a_file", "git tag odd $(git rev-parse HEAD:a.txt); echo x >x; git add x; git commit -qm x",
                 true},
        Scenario{"everything_packed", "echo x >x; git add x; git commit -qm x; git gc -q", true},
        Scenario{"half_of_it_packed",
                 "echo x >x; git add x; git commit -qm x; git repack -qd; echo y >x; git commit -qam y", true},
        Scenario{"a_large_file", "head -c 300000 /dev/urandom >x; git add x; git commit -qm x", true},
        Scenario{"a_long_history", "for i in $(seq 80); do git commit -q --allow-empty -m $i; done", true},
        Scenario{"a_symbolic_branch",
                 "echo x >x; git add x; git commit -qm x; git symbolic-ref refs/heads/s refs/heads/main", true},
        Scenario{"a_name_that_is_no_ascii", "git switch -qc 'm\xc3\xa4h'; git commit -q --allow-empty -m x", true},
        Scenario{"a_shallow_clone", "git rev-parse HEAD >.git/shallow", true},
        Scenario{"a_missing_file",
                 "echo x >x; git add x; git commit -qm x; id=$(git rev-parse HEAD:x); rm -f .git/objects/$(echo $id | "
                 "cut -c1-2)/$(echo $id | cut -c3-)",
                 true},
        Scenario{"a_refused_tree",
                 "t=$(printf '100644 blob %s\\t.GIT\\n' $(git rev-parse HEAD:a.txt) | git -c core.protectNTFS=false "
                 "mktree); git update-ref refs/heads/evil $(git commit-tree $t -m x)",
                 true},
        Scenario{"a_broken_object",
                 "echo x >x; git add x; git commit -qm x; f=.git/objects/$(git rev-parse HEAD | sed 's|..|&/|'); chmod "
                 "u+w $f; truncate -s -3 $f",
                 true}),
    [](const auto& scenario) { return std::string(scenario.param.name); });

/// Objects that exist nowhere but here.
struct Served {
  std::map<std::string, std::string> files;
  std::map<std::string, std::string> tips;

  static std::string packed(const std::string& type, const std::string& data) {
    // Stored, not compressed: a pack's entry without its head, around the loose header.
    const auto whole = type + " " + std::to_string(data.size()) + std::string(1, '\0') + data;
    const auto entry = test::pack_entry(test::PackType::blob, whole);
    return entry.substr(entry.find('\x78'));
  }
  std::string add(const std::string& type, const std::string& data) {
    const auto id = test::to_hex(test::object_id(type, data));
    files[id] = packed(type, data);
    return id;
  }
  std::string commit(const std::string& tree, const std::string& parent = {}) {
    return add("commit", "tree " + tree + "\n" + (parent.empty() ? "" : "parent " + parent + "\n") +
                             "author A <a@b> 1700000000 +0000\ncommitter A <a@b> 1700000000 +0000\n\nx\n");
  }
  LooseSource source() const {
    return {[*this](Deadline) {
              return LooseSource::References{"refs/heads/main", tips};
            },
            [*this](const std::vector<std::string>& ids, std::stop_token, Deadline) {
              std::map<std::string, std::string> found;
              for (const auto& id : ids)
                if (const auto file = files.find(id); file != files.end()) found.insert(*file);
              return found;
            }};
  }
};

TEST_F(LooseTest, HostileObjectsAreRefused) {
  const auto entry = [](const std::string& mode, const std::string& name, const std::string& id) {
    return mode + " " + name + std::string(1, '\0') + test::from_hex(id);
  };
  const auto judged = [&](const std::function<void(Served&)>& change, SyncLimits limits = {}) {
    Served served;
    const auto blob = served.add("blob", "hello\n");
    served.tips["refs/heads/main"] = served.commit(served.add("tree", entry("100644", "hello", blob)));
    change(served);
    source = served.source();
    return fetch(limits).has_value();
  };
  EXPECT_TRUE(judged([](Served&) {})) << "else the cases below show nothing";
  const auto tree_of = [&](Served& served, const std::string& tree) {
    served.tips["refs/heads/main"] = served.commit(served.add("tree", tree));
  };
  EXPECT_FALSE(judged([&](Served& s) { tree_of(s, entry("100644", ".git", s.add("blob", "x"))); }));
  EXPECT_FALSE(judged([&](Served& s) { tree_of(s, entry("100644", "../x", s.add("blob", "x"))); }));
  EXPECT_FALSE(judged([&](Served& s) { tree_of(s, entry("100644", "gone", std::string(40, '7'))); }));
  EXPECT_FALSE(judged([&](Served& s) { tree_of(s, entry("40000", "file", s.add("blob", "x"))); }));
  EXPECT_FALSE(judged([&](Served& s) { tree_of(s, "100644 cut short"); }));
  EXPECT_FALSE(judged([&](Served& s) { s.tips["refs/heads/main"] = s.add("commit", "no commit at all"); }));
  EXPECT_FALSE(judged([&](Served& s) { s.tips["refs/heads/main"] = s.add("blob", "no commit"); }));
  EXPECT_FALSE(judged([&](Served& s) { s.tips["refs/heads/main"] = std::string(40, '9'); }));
  const auto each_file = [&](const std::function<std::string(const std::string&)>& change) {
    return judged([&](Served& s) {
      auto& file = s.files.at(s.tips.at("refs/heads/main"));
      file = change(file);
    });
  };
  EXPECT_FALSE(each_file([](const std::string& f) { return f.substr(0, f.size() / 2); }));
  EXPECT_FALSE(each_file([](const std::string& f) { return f + "more"; }));
  EXPECT_FALSE(each_file([](const std::string&) { return std::string(); }));
  EXPECT_FALSE(each_file([](const std::string&) { return Served::packed("commit", "something else"); }));
  EXPECT_FALSE(each_file([](const std::string&) { return Served::packed("weird", "x"); }));
  // More than a few, and more than the caps.
  EXPECT_FALSE(
      judged([&](Served& s) { tree_of(s, entry("100644", "big", s.add("blob", std::string(3u << 20, 'x')))); }));
  EXPECT_FALSE(judged([&](Served& s) {
    auto tip = s.tips.at("refs/heads/main");
    const auto tree = s.add("tree", "");
    for (int i = 0; i < 100; ++i) tip = s.commit(tree, tip);
    s.tips["refs/heads/main"] = tip;
  }));
  EXPECT_FALSE(judged([&](Served& s) {
    std::string tree;
    for (int i = 0; i < 2500; ++i) tree += entry("100644", fmt::format("{:05}", i), s.add("blob", std::to_string(i)));
    tree_of(s, tree);
  }));
  SyncLimits small;
  small.objects = 2;
  EXPECT_FALSE(judged([](Served&) {}, small));
}

TEST_F(LooseTest, ASourceThatFailsIsNotTheEnd) {
  const auto tip = guest.commit("b.txt", "two\n");
  const auto good = source;
  source.references = [](Deadline) -> std::optional<LooseSource::References> {
    throw Error(ErrorCode::usage, "this guest's agent knows no operation 'references'");
  };
  EXPECT_EQ(sync().new_tip, tip);
  EXPECT_TRUE(git_was_asked());
  guest.commit("c.txt", "three\n");
  source = good;
  source.objects = [](const auto&, std::stop_token, Deadline) -> std::map<std::string, std::string> {
    throw Error(ErrorCode::operation_failed, "the connection to the guest's agent is lost");
  };
  EXPECT_EQ(sync().new_tip, guest.tip());
  // An object that nobody asked for, in the place of one that was.
  guest.commit("d.txt", "four\n");
  source.objects = [](const auto&, std::stop_token, Deadline) {
    return std::map<std::string, std::string>{{std::string(40, 'a'), "x"}};
  };
  EXPECT_EQ(sync().new_tip, guest.tip());
  host.fsck();
}

/// A child that was taken over asks for what is no object: it learns nothing, and is hung up on.
TEST_F(LooseTest, TheRelayAnswersForObjectsAlone) {
  for (const std::string asked : {"want ../../../etc/passwd", "want ", "have aaaa", "WANT"}) {
    int calls = 0;
    source.objects = [&](const auto&, std::stop_token, Deadline) {
      ++calls;
      return std::map<std::string, std::string>{};
    };
    LooseRelay relay(source, {"refs/heads/main", {{"refs/heads/main", host.tip()}}}, Deadline::after(patience));
    const auto io = relay.take_io();
    git::PktStream stream(io.get(), io.get(), 1u << 20, Deadline::after(patience));
    while (stream.next().kind == git::Pkt::Kind::data) {
    }
    stream.send(git::pkt(asked) + std::string(git::flush_pkt));
    EXPECT_THROW(stream.next(), Error) << asked;
    EXPECT_EQ(calls, 0) << asked;
  }
}

}  // namespace
}  // namespace agentvm::sync
