// Names of snapshots, which of them make room, and what a guest may say of its work trees.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sync/guest_work.hpp"
#include "sync/refs.hpp"
#include "sync/wip_name.hpp"

namespace agentvm::sync {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

const std::string oid(40, 'a'), tree(40, 'b');

TEST(WipName, IsReadAsItIsWritten) {
  for (const WipName& name :
       {WipName{"20260131T080910Z", "", WipKind::kept}, WipName{"20260131T080910Z", "", WipKind::timer},
        WipName{"20260131T080910Z", "feature-x-0123abcd", WipKind::kept},
        WipName{"20260131T080910Z", "lock", WipKind::kept}, WipName{"20260131T080910Z", "timer", WipKind::timer}}) {
    EXPECT_EQ(parse_wip_name(name.str()), name) << name.str();
    EXPECT_FALSE(refname_problem("refs/agentvm/box/wip/" + name.str())) << name.str();
  }
  for (const auto* text :
       {"", "20260131T080910", "2026-01-31T080910Z", "20261331T080910Z", "20260131T080910Z-", "20260131T080910Zx",
        "20260131T080910Z-a/b", "20260131T080910Z-A", "20260131T080910Z.timer.timer", ".timer", "20260131T080910Z-a.b"})
    EXPECT_FALSE(parse_wip_name(text)) << text;
}

TEST(WipName, StampsAreTimes) {
  EXPECT_EQ(stamp_time("20260131T080910Z"), 1'769'846'950);
  EXPECT_EQ(ref_stamp(1'769'846'950), "20260131T080910Z");
  EXPECT_FALSE(stamp_time("20260131T250910Z"));
}

TEST(WipPrune, TheNewestMomentsStayWithAllTheirWorkTrees) {
  const std::vector<std::string> timed = {"20260101T000001Z.timer", "20260101T000001Z-x.timer",
                                          "20260101T000002Z.timer", "20260101T000003Z.timer"};
  EXPECT_THAT(wip_to_prune(timed, {}, 3), IsEmpty());
  EXPECT_THAT(wip_to_prune(timed, {}, 2), ElementsAre("20260101T000001Z.timer", "20260101T000001Z-x.timer"));
  EXPECT_THAT(wip_to_prune(timed, {"20260101T000001Z-x.timer"}, 2), ElementsAre("20260101T000001Z.timer"));
  EXPECT_THAT(wip_to_prune({"20260101T000001Z", "20260101T000002Z.timer"}, {}, 1), IsEmpty()) << "not of the timer";
}

TEST(GuestAnswers, OfTheRightFormAreRead) {
  const auto seen =
      parse_survey("tree\t" + oid + "\trefs/heads/main\t3\t2\t/workspace\ntree\t-\t-\t0\t0\t/w/a b\nend\n");
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[0].branch, "main");
  EXPECT_EQ(seen[0].pending, 3u);
  EXPECT_EQ(seen[1].path, "/w/a b");
  EXPECT_EQ(seen[1].tip, "");
  const auto taken =
      parse_snapshots("work\t0\t-\t" + tree + "\t" + oid + "\trefs/heads/main\twhole\t/workspace\nwork\t2\t" + oid +
                      "\t" + tree + "\t-\t-\tpartial\t/w\nend\n");
  ASSERT_EQ(taken.size(), 2u);
  EXPECT_EQ(taken[0].commit, "");
  EXPECT_EQ(taken[1].number, 2u);
  EXPECT_FALSE(taken[1].whole);
}

TEST(GuestAnswers, OfAnyOtherFormAreRefused) {
  const auto row = "tree\t" + oid + "\trefs/heads/main\t3\t2\t/workspace\n";
  std::string many;
  for (int i = 0; i < 65; ++i) many += row;
  for (const auto& text : std::vector<std::string>{
           "", row, std::string("end\n") + row, row + "end\nmore\n", many + "end\n",
           "tree\t" + oid + "\trefs/heads/main\t3\t/workspace\nend\n",
           "tree\t" + oid + "\trefs/heads/..\t3\t2\t/w\nend\n", "tree\t" + oid + "\trefs/tags/x\t3\t2\t/w\nend\n",
           "tree\t" + oid + "\trefs/heads/x\t-3\t2\t/w\nend\n",
           "tree\t" + oid + "\trefs/heads/x\t3\t99999999999\t/w\nend\n",
           "tree\t" + oid + "\trefs/heads/x\t3\t2\tw\nend\n",
           "tree\t" + oid + "\trefs/heads/x\t3\t2\t/w\x1b[31m\nend\n", "tree\tHEAD\trefs/heads/x\t3\t2\t/w\nend\n",
           "work\t" + oid + "\trefs/heads/x\t3\t2\t/w\nend\n",
           "tree\t" + oid + "\trefs/heads/x\t3\t2\t/" + std::string(5000, 'x') + "\nend\n"})
    EXPECT_THROW(parse_survey(text), Error) << text.substr(0, 200);
  const auto head = "\t" + oid + "\t" + tree + "\t-\t-\t";
  for (const auto& text : std::vector<std::string>{
           "work\t1" + head + "whole\t/w\nwork\t1" + head + "whole\t/w\nend\n", "work\t64" + head + "whole\t/w\nend\n",
           "work\t0" + head + "fine\t/w\nend\n", "work\t0\t" + oid + "\t-\t-\t-\twhole\t/w\nend\n",
           "work\t../x" + head + "whole\t/w\nend\n"})
    EXPECT_THROW(parse_snapshots(text), Error) << text;
}

}  // namespace
}  // namespace agentvm::sync
