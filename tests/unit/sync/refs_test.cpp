#include "sync/refs.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sync/outcome.hpp"
#include "sync/verdict.hpp"
#include "tests/contract/sync/git_fixture.hpp"

namespace agentvm::sync {
namespace {

using testing::HasSubstr;
const std::string id(40, 'a');

// Every name that git refuses is refused here; the few that only we refuse are named.
TEST(RefName, AgreesWithGit) {
  test::TempDir dir;
  const auto repo = test::Repo::init(dir / "r");
  const std::set<std::string> only_ours = {"refs/heads/-x",
                                           "refs/heads/a/-b",
                                           "refs/heads/\xff",
                                           "refs/heads/" + std::string(201, 'x'),
                                           "refs/heads/\xc0\xaf",
                                           "refs/heads/\xed\xa0\x80",
                                           "refs/heads/a\xe2\x80\xae"
                                           "b",
                                           "refs/heads/a\xc2\x9b"
                                           "b",
                                           "refs/heads/\xe2\x80\x8b"};
  std::vector<std::string> names(only_ours.begin(), only_ours.end());
  for (const char* name :
       {"main", "a/b/c", "a.b",   "a@b", "@",   "a-", "\xc3\xbc", ".a", "a.",      "a..b", "a.lock", "a.lock/b",
        "a/.b", "a//b",  "/a",    "a/",  "a b", "a~", "a^",       "a:", "a?",      "a*",   "a[",     "a\\b",
        "a@{b", "a\tb",  "a\177", "a]",  "{a}", "a{", "..",       ".",  "a.lockx", "HEAD"})
    names.push_back("refs/heads/" + std::string(name));
  for (int c = 1; c < 128; ++c) names.push_back(std::string("refs/heads/x") + static_cast<char>(c) + "y");
  for (const auto& name : names) {
    const bool git = repo.git_ok({"check-ref-format", name}), ours = !refname_problem(name);
    EXPECT_EQ(ours, git && !only_ours.contains(name)) << name;
  }
}

TEST(SelectBranches, PassesOverWhatIsNoBranch) {
  const auto result = select_branches(
      {{"HEAD", id}, {"refs/tags/v1", id}, {"refs/notes/x", id}, {"refs/heads/main", id}, {"refs/pull/1/head", id}});
  EXPECT_EQ(result.branches, (std::map<std::string, std::string>{{"main", id}}));
  EXPECT_TRUE(result.rejected.empty());
}

TEST(SelectBranches, RejectsWithAReasonAndGoesOn) {
  const auto result = select_branches({{"refs/heads/wip", id},
                                       {"refs/heads/old/x", id},
                                       {"refs/heads/tags/x", id},
                                       {"refs/heads/HEAD", id},
                                       {"refs/heads/a", id},
                                       {"refs/heads/a", id},
                                       {"refs/heads/a/b", id},
                                       {"refs/heads/null", std::string(40, '0')},
                                       {"refs/heads/-delete", id},
                                       {"refs/heads/c/../../../hooks/x", id},
                                       {"refs/heads/wiper", id}});
  EXPECT_EQ(result.branches.size(), 2u);
  EXPECT_TRUE(result.branches.contains("wiper"));
  EXPECT_EQ(result.rejected.size(), 9u);
}

TEST(RefStamp, FitsIntoAName) {
  EXPECT_EQ(ref_stamp(1769846950), "20260131T080910Z");
  EXPECT_FALSE(refname_problem(old_ref("box", ref_stamp(0), "a/b")));
}

TEST(Verdict, ComesBackAsItWas) {
  FetchVerdict verdict;
  verdict.branches = {{"main", id}};
  verdict.rejected = {{"refs/heads/\x1b[31m", "is bad"}};
  verdict.pack = id;
  verdict.objects = 3;
  const auto again = verdict_from_json(parse_json(dump_json(to_json(verdict)), "verdict"));
  EXPECT_EQ(again.branches, verdict.branches);
  EXPECT_EQ(again.rejected.at(0).name, "refs/heads/\\x1b[31m");
  EXPECT_EQ(again.pack, id);
}

// A child that was taken over says what it likes; nothing of it may pass.
TEST(Verdict, OfATakenOverChild) {
  const auto with = [](const char* key, Json value) {
    auto json = to_json(FetchVerdict{});
    json[key] = std::move(value);
    return json;
  };
  const auto ref = [](const std::string& branch, const std::string& tip) {
    return Json::array({{{"branch", branch}, {"tip", tip}}});
  };
  for (const auto& json :
       {with("refs", ref("../../heads/main", id)), with("refs", ref("wip/x", id)), with("refs", ref("a\nb", id)),
        with("refs", ref("a", "main")), with("refs", ref("a", id + "\n")), with("refs", "text"),
        with("pack", "../../x"), with("detached_head", "main"), with("detached_head", id + "\n"),
        with("pack", id + "/"), with("objects", "many"), Json::array(), Json("x")})
    EXPECT_THROW(verdict_from_json(json), Error) << json;
  try {
    verdict_from_json({{"error", "a\x1b[31mb"}, {"code", "timed-out"}});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::timed_out);
    EXPECT_STREQ(error.what(), "a\\x1b[31mb");
  }
  EXPECT_EQ(verdict_from_json(with("head_branch", "a..b")).head_branch, "");
}

TEST(Limits, ComeBackAndDefault) {
  SyncLimits limits;
  limits.refs = 7;
  EXPECT_EQ(limits_from_json(to_json(limits)).refs, 7u);
  EXPECT_EQ(limits_from_json(Json::object()).seconds, SyncLimits{}.seconds);
}

TEST(Outcome, ExitCodesAndWords) {
  SyncOutcome outcome;
  for (const auto& [result, code, word] : {std::tuple{Result::updated, 0, "updated"},
                                           {Result::up_to_date, 0, "up-to-date"},
                                           {Result::gated, 6, "gated"},
                                           {Result::diverged, 6, "diverged"},
                                           {Result::conflict, 6, "conflict"},
                                           {Result::dirty, 6, "dirty"}}) {
    outcome.result = result;
    EXPECT_EQ(outcome.exit_code(), code);
    EXPECT_EQ(to_json(outcome)["result"], word);
    EXPECT_EQ(to_json(outcome)["schema"], "agentvm.sync/1");
  }
}

}  // namespace
}  // namespace agentvm::sync
