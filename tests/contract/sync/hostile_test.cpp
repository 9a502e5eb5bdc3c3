// Guests that attack through the fetch. In every case: refused (or the one branch rejected) within 5 seconds, the
// host's references and files as they were, `git fsck` clean, the quarantine gone.
#include <csignal>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "sync/sync.hpp"
#include "tests/contract/sync/git_fixture.hpp"
#include "tests/contract/sync/hostile_server.hpp"
#include "tests/support/hostile_text.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::sync {
namespace {

using namespace test;
using testing::HasSubstr;

const std::string some_id(40, 'a');
// The promise is 5 seconds; a machine that builds beside the test gets three times that.
constexpr auto patience = std::chrono::seconds(15);

class HostileTest : public testing::Test {
 protected:
  HostileTest() : host(Repo::init(dir / "host")), guest(dir / "guest") {
    host.commit("a.txt", "one\n", "first");
    guest = Repo::clone(host, dir / "guest");
    limits.seconds = 3;
    limits.memory = 256u << 20;
    limits.bytes = 32u << 20;
    limits.objects = 10'000;
    limits.refs = 1'000;
    limits.expanded_bytes = 64u << 20;
  }
  ~HostileTest() override {
    EXPECT_TRUE(host.git_ok({"fsck", "--strict", "--full"}));
    if (!fs::exists(dir / "scratch")) return;
    for (const auto& entry : fs::directory_iterator(dir / "scratch")) EXPECT_EQ(entry.path().filename(), "sync.lock");
  }

  SyncOutcome sync(FakeStreams& streams) {
    SyncRequest request{.repository = host.path(),
                        .sandbox = SandboxName::parse("box"),
                        .guest_path = guest.path().string(),
                        .libexec = AGENTVM_TEST_LIBEXEC,
                        .scratch = dir / "scratch",
                        .limits = limits};
    return sync_now(request, streams, no_progress(), Deadline::after(std::chrono::seconds(20)));
  }
  /// The refusal's text. With a program: instead of the real upload-pack.
  std::string refusal(const FakeStreams::Program& program = {}) {
    FakeStreams streams([&](const guest::ExecSpec&) { return program; });
    const auto before = host.refs();
    const auto status = host.status();
    const auto objects = host.git({"count-objects", "-v"});
    const auto start = std::chrono::steady_clock::now();
    std::string text;
    try {
      const auto outcome = sync(streams);
      ADD_FAILURE() << "not refused: " << to_text(outcome);
    } catch (const Error& error) {
      text = error.what();
    }
    EXPECT_LT(std::chrono::steady_clock::now() - start, patience);
    EXPECT_EQ(host.refs(), before);
    EXPECT_EQ(host.status(), status);
    EXPECT_EQ(host.git({"count-objects", "-v"}), objects);
    EXPECT_EQ(text.find('\x1b'), std::string::npos);
    return text;
  }
  /// A commit on top of the guest's main whose tree is these raw bytes; the real upload-pack serves it.
  void commit_tree(const std::string& raw_tree) {
    const auto tree = guest.git({"hash-object", "-t", "tree", "--literally", "-w", "--stdin"}, raw_tree);
    guest.git({"update-ref", "refs/heads/main", guest.git({"commit-tree", tree, "-p", "main", "-m", "evil"})});
  }
  std::string blob(const std::string& content) { return guest.git({"hash-object", "-w", "--stdin"}, content); }
  static std::string entry(const std::string& mode, const std::string& name, const std::string& id) {
    return mode + " " + name + std::string(1, '\0') + from_hex(id);
  }

  TempDir dir;
  Repo host, guest;
  SyncLimits limits;
};

TEST_F(HostileTest, Garbage) {
  EXPECT_THAT(refusal(endless("", "GET / HTTP/1.1\r\n\r\n")), HasSubstr("does not speak git's protocol"));
}
TEST_F(HostileTest, GarbageLength) {
  EXPECT_THAT(refusal(serve("0001", "")), HasSubstr("does not speak"));
}
TEST_F(HostileTest, EmptyAnswer) {
  EXPECT_THAT(refusal([](auto&, int, int) { return 0; }), HasSubstr("ended the connection early"));
}
TEST_F(HostileTest, Silence) {
  EXPECT_THAT(refusal([](auto&, int io, int) {
                char byte;
                return static_cast<int>(::read(io, &byte, 1));
              }),
              HasSubstr("in time"));
}
TEST_F(HostileTest, ProtocolVersionTwo) {
  EXPECT_THAT(refusal(serve(pkt_line("version 2\n") + "0000", "")), HasSubstr("another protocol version"));
}
TEST_F(HostileTest, LinesThatAreNoReferences) {
  EXPECT_THAT(refusal(serve(pkt_line("hello\n") + "0000", "")), HasSubstr("no reference"));
}
TEST_F(HostileTest, ErrorWithEscapes) {
  EXPECT_THAT(refusal(serve(pkt_line("ERR \x1b]52;c;ZXZpbA==\x07 gone\n"), "")), HasSubstr("\\x1b]52"));
}
TEST_F(HostileTest, ErrorTextOnStandardErrorIsCleaned) {
  EXPECT_THAT(refusal([](auto&, int, int err) { return static_cast<int>(::write(err, "\x1b[2Jfatal", 9)); }),
              HasSubstr("\\x1b[2Jfatal"));
}
TEST_F(HostileTest, NothingThatIsSaidComesThroughRaw) {
  constexpr std::size_t line_limit_bytes = 60'000;
  for (const auto& whole : test::hostile_texts()) {
    const auto text = whole.substr(0, line_limit_bytes);
    EXPECT_EQ(test::harm_in(refusal(serve(pkt_line("ERR " + text), ""))), "");
    const auto aside = [&](auto&, int, int err) {
      write_all(err, text, Deadline::after(std::chrono::seconds(20)));
      return 1;
    };
    EXPECT_EQ(test::harm_in(refusal(aside)), "");
  }
}
TEST_F(HostileTest, EndlessAdvertisement) {
  EXPECT_THAT(refusal(endless(pkt_line(some_id + " refs/heads/x" + std::string(1, '\0') + "side-band-64k\n"),
                              pkt_line(some_id + " refs/heads/y\n"))),
              HasSubstr("sync.limits.refs"));
}
TEST_F(HostileTest, EndlessPeeledTags) {
  std::string chunk;
  for (int i = 0; i < 1000; ++i) chunk += pkt_line(some_id + " refs/tags/x^{}\n");
  limits.bytes = 4u << 20;
  EXPECT_THAT(refusal(endless("", chunk)), HasSubstr("sync.limits.bytes"));
}
TEST_F(HostileTest, HundredThousandReferences) {
  std::vector<RefLine> refs;
  for (int i = 0; i < 100'000; ++i) refs.emplace_back(some_id, "refs/heads/b" + std::to_string(i));
  EXPECT_THAT(refusal(serve(advertisement(refs), "")), HasSubstr("sync.limits.refs"));
}
TEST_F(HostileTest, OtherObjectFormat) {
  EXPECT_THAT(refusal(serve(advertisement({{some_id, "refs/heads/x"}}, "side-band-64k object-format=sha256"), "")),
              HasSubstr("SHA-1"));
}
TEST_F(HostileTest, Shallow) {
  EXPECT_THAT(refusal(serve(pkt_line("shallow " + some_id), "")), HasSubstr("shallow"));
}

TEST_F(HostileTest, BadReferenceNamesAreRejectedOneByOne) {
  const auto tip = host.tip();
  std::vector<RefLine> refs = {{tip, "refs/heads/good"}};
  for (const char* name :
       {"refs/heads/../../hooks/x", "refs/heads/a..b", "refs/heads/a.lock", "refs/heads/.hidden", "refs/heads/-delete",
        "refs/heads/a\x1b[31m", "refs/heads//x", "refs/heads/x/", "refs/heads/a~1", "refs/heads/a@{1}",
        "refs/heads/\xff", "refs/heads/HEAD", "refs/heads/good", "refs/heads/good/below", "refs/../evil",
        "refs/heads/wip/x", "refs/heads/a b", "refs/heads/x\\y"})
    refs.emplace_back(tip, name);
  FakeStreams streams([&](const guest::ExecSpec&) { return serve(advertisement(refs), ""); });
  const auto outcome = sync(streams);
  EXPECT_EQ(outcome.rejected.size(), refs.size() - 1) << to_text(outcome);
  EXPECT_EQ(host.refs(), tip + " refs/agentvm/box/good\n" + tip + " refs/heads/main");
  EXPECT_EQ(to_text(outcome).find('\x1b'), std::string::npos);
}

TEST_F(HostileTest, EndlessRemarks) {
  EXPECT_THAT(refusal(serve(advertisement({{some_id, "refs/heads/x"}}), "",
                            [](int io) {
                              for (;;)
                                write_all(io, band(2, std::string(60000, '.')),
                                          Deadline::after(std::chrono::seconds(9)));
                            })),
              HasSubstr("endless remarks"));
}
TEST_F(HostileTest, EndlessPack) {
  EXPECT_THAT(
      refusal(serve(advertisement({{some_id, "refs/heads/x"}}), "",
                    [](int io) {
                      write_all(
                          io, band(1, make_pack({}, 5000).substr(0, 12) + pack_entry(PackType::blob, "x").substr(0, 1)),
                          Deadline::after(std::chrono::seconds(9)));
                      for (;;)
                        write_all(io, band(1, std::string(60000, '\0')), Deadline::after(std::chrono::seconds(9)));
                    })),
      testing::AnyOf(HasSubstr("pack"), HasSubstr("sync.limits.bytes")));
}
TEST_F(HostileTest, FourBillionObjects) {
  EXPECT_THAT(refusal(serve(advertisement({{some_id, "refs/heads/x"}}), band(1, make_pack({}, 0xFFFFFFFF)) + "0000")),
              HasSubstr("sync.limits.objects"));
}
TEST_F(HostileTest, NoPackAtAll) {
  EXPECT_THAT(refusal(serve(advertisement({{some_id, "refs/heads/x"}}), "0000")), HasSubstr("no pack"));
  EXPECT_THAT(refusal(serve(advertisement({{some_id, "refs/heads/x"}}), band(1, "this is certainly no pack") + "0000")),
              HasSubstr("no pack"));
}
TEST_F(HostileTest, UnknownSideBand) {
  EXPECT_THAT(refusal(serve(advertisement({{some_id, "refs/heads/x"}}), band(7, "x") + "0000")),
              HasSubstr("side band"));
}
TEST_F(HostileTest, DamagedPack) {
  auto pack = make_pack({pack_entry(PackType::blob, "content")});
  pack[pack.size() / 2] = static_cast<char>(pack[pack.size() / 2] ^ 1);
  EXPECT_THAT(refusal(serve(advertisement({{some_id, "refs/heads/x"}}), band(1, pack) + "0000")),
              HasSubstr("the pack"));
}
TEST_F(HostileTest, DeltasThatNeedEachOther) {
  const std::string delta("\x01\x01\x90\x01", 4);
  const auto pack = make_pack({pack_entry(PackType::ref_delta, delta, from_hex(std::string(40, 'b'))),
                               pack_entry(PackType::ref_delta, delta, from_hex(std::string(40, 'c')))});
  EXPECT_THAT(refusal(serve(advertisement({{some_id, "refs/heads/x"}}), band(1, pack) + "0000")), HasSubstr("pack"));
}
TEST_F(HostileTest, DeltaBombMeetsTheMemoryLimit) {
  const std::string base(65536, 'x');
  // Each 0x80 copies 64 KiB from the start of the base: 64 KiB of them make 4 GiB.
  const std::string delta =
      std::string("\x80\x80\x04", 3) + std::string("\x80\x80\x80\x80\x10", 5) + std::string(65536, '\x80');
  const auto pack =
      make_pack({pack_entry(PackType::blob, base), pack_entry(PackType::ref_delta, delta, object_id("blob", base))});
  refusal(serve(advertisement({{some_id, "refs/heads/x"}}), band(1, pack) + "0000"));
}
TEST_F(HostileTest, ExpansionLimit) {
  limits.expanded_bytes = 4u << 20;
  guest.commit("zeros", std::string(8u << 20, '\0'));
  EXPECT_THAT(refusal(), HasSubstr("unpack to more than"));
}

TEST_F(HostileTest, SizeOfOneObject) {
  limits.object_bytes = 1u << 20;
  guest.commit("zeros", std::string(2u << 20, '\0'));
  EXPECT_THAT(refusal(), HasSubstr("larger than 1048576 bytes"));
  // A delta of a few bytes that makes as much: 2 MiB from a base of 64 KiB.
  const std::string base(65536, 'x');
  const std::string delta =
      std::string("\x80\x80\x04", 3) + std::string("\x80\x80\x80\x01", 4) + std::string(32, '\x80');
  const auto pack =
      make_pack({pack_entry(PackType::blob, base), pack_entry(PackType::ref_delta, delta, object_id("blob", base))});
  EXPECT_THAT(refusal(serve(advertisement({{some_id, "refs/heads/x"}}), band(1, pack) + "0000")),
              HasSubstr("larger than 1048576 bytes"));
}

TEST_F(HostileTest, TipThatIsNotInThePack) {
  const auto pack = make_pack({pack_entry(PackType::blob, "content")});
  FakeStreams streams([&](const guest::ExecSpec&) {
    return serve(advertisement({{some_id, "refs/heads/x"}, {host.tip(), "refs/heads/ok"}}), band(1, pack) + "0000");
  });
  const auto outcome = sync(streams);
  ASSERT_EQ(outcome.rejected.size(), 1u);
  EXPECT_THAT(outcome.rejected[0].reason, HasSubstr("is missing"));
  EXPECT_EQ(host.tip("refs/agentvm/box/ok"), host.tip());
  EXPECT_FALSE(host.git_ok({"rev-parse", "-q", "--verify", "refs/agentvm/box/x"}));
}
TEST_F(HostileTest, TipThatIsNoCommit) {
  const auto tree = host.tip("HEAD^{tree}");
  FakeStreams streams([&](const guest::ExecSpec&) { return serve(advertisement({{tree, "refs/heads/x"}}), ""); });
  EXPECT_THAT(sync(streams).rejected.at(0).reason, HasSubstr("is a tree"));
}
TEST_F(HostileTest, HolesInHistoryAndTrees) {
  const std::string ident = "A <a@b> 1700000000 +0000";
  const auto commit = [&](const std::string& tree, const std::string& parent) {
    return "tree " + tree + "\nparent " + parent + "\nauthor " + ident + "\ncommitter " + ident + "\n\nx\n";
  };
  const auto good_tree = host.tip("HEAD^{tree}"), file = host.git({"rev-parse", "HEAD:a.txt"}),
             missing = std::string(40, 'd');
  const auto hollow_tree = entry("100644", "f", missing), confused_tree = entry("40000", "f", file);
  struct Case {
    std::string commit, extra, words;
  };
  const std::vector<Case> cases = {
      {commit(good_tree, missing), "", "was not sent"},
      {commit(missing, host.tip()), "", "was not sent"},
      {commit(to_hex(object_id("tree", hollow_tree)), host.tip()), hollow_tree, "was not sent"},
      {commit(to_hex(object_id("tree", confused_tree)), host.tip()), confused_tree, "must be"},
      {commit(file, host.tip()), "", "must be"},
      // nothing of the branch is wrong, but what lies beside it in the pack would break the host's fsck
      {commit(good_tree, host.tip()), hollow_tree, "was not sent"}};
  for (const auto& test : cases) {
    std::vector<std::string> entries = {pack_entry(PackType::commit, test.commit)};
    if (!test.extra.empty()) entries.push_back(pack_entry(PackType::tree, test.extra));
    const std::vector<RefLine> refs = {{to_hex(object_id("commit", test.commit)), "refs/heads/b"},
                                       {host.tip(), "refs/heads/good"}};
    EXPECT_THAT(refusal(serve(advertisement(refs), band(1, make_pack(entries)) + "0000")), HasSubstr(test.words))
        << test.commit;
  }
}

TEST_F(HostileTest, TreesWithGitEntries) {
  const auto id = blob("x");
  for (const char* name :
       {".git", ".GiT", "git~1", ".git ", ".git...", ".g\xe2\x80\x8cit", ".git::$INDEX_ALLOCATION", "..", "."}) {
    commit_tree(entry("100644", name, id));
    EXPECT_THAT(refusal(), HasSubstr("has an entry")) << name;
    guest.git({"update-ref", "refs/heads/main", host.tip()});
  }
}
TEST_F(HostileTest, DuplicateEntries) {
  const auto id = blob("x");
  commit_tree(entry("100644", "a", id) + entry("100644", "a", id));
  EXPECT_THAT(refusal(), HasSubstr("same name"));
}
TEST_F(HostileTest, GitmodulesAsLinkAndWithCommands) {
  commit_tree(entry("120000", ".gitmodules", blob("../../etc/passwd")));
  EXPECT_THAT(refusal(), HasSubstr("symbolic link for .gitmodules"));
  guest.git({"update-ref", "refs/heads/main", host.tip()});
  commit_tree(entry("100644", ".gitmodules", blob("[submodule \"../../x\"]\n\tpath = x\n\turl = -u./payload\n")));
  EXPECT_THAT(refusal(), HasSubstr("outside of its folder"));
}

TEST_F(HostileTest, KilledChildLeavesTheHostAsItWas) {
  guest.commit("b.txt", "two\n");
  const auto before = host.refs();
  FakeStreams streams([&](const guest::ExecSpec&) -> FakeStreams::Program {
    return serve(advertisement({{some_id, "refs/heads/x"}}), "", [](int io) {
      // The only child of this process that is not the guest: the one with the quarantine as its folder.
      for (const auto& task : fs::directory_iterator("/proc/self/task"))
        for (const auto& pid : {read_file(task.path() / "children")})
          for (std::size_t at = 0; at < pid.size(); at = pid.find(' ', at) + 1) {
            ::kill(std::stoi(pid.substr(at)), SIGKILL);
            if (pid.find(' ', at) == std::string::npos) break;
          }
      char byte;
      while (::read(io, &byte, 1) > 0) {
      }
    });
  });
  try {
    sync(streams);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("signal 9"));
  }
  EXPECT_EQ(host.refs(), before);
  FakeStreams honest;
  EXPECT_TRUE(sync(honest).moved);
}
TEST_F(HostileTest, LeftOversOfAKilledSyncAreSwept) {
  ensure_private_dir(dir / "scratch" / "quarantine-0123" / "objects");
  const auto pack_dir = host.path() / ".git/objects/pack";
  fs::create_directories(pack_dir);
  write_file_atomic(pack_dir / ("pack-" + some_id + ".keep"), "agentvm-sync 999999999 1\n");
  write_file_atomic(pack_dir / ("pack-" + std::string(40, 'b') + ".keep"), "somebody else's\n");
  guest.commit("b.txt", "two\n");
  FakeStreams honest;
  EXPECT_TRUE(sync(honest).moved);
  EXPECT_FALSE(fs::exists(pack_dir / ("pack-" + some_id + ".keep")));
  EXPECT_TRUE(fs::exists(pack_dir / ("pack-" + std::string(40, 'b') + ".keep")));
  fs::remove(pack_dir / ("pack-" + std::string(40, 'b') + ".keep"));
}

}  // namespace
}  // namespace agentvm::sync
