#include "vmm/virtiofs/id_map.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/base/error.hpp"

namespace agentvm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(SubordinateIds, FindsByNameAndByNumber) {
  const auto text = "root:100000:65536\nalice:165536:65536\n1001:300000:1000\nalice:400000:10\n";
  EXPECT_THAT(
      parse_subordinate_ids(text, "alice", 1001),
      ElementsAre(SubordinateRange{165536, 65536}, SubordinateRange{300000, 1000}, SubordinateRange{400000, 10}));
  EXPECT_THAT(parse_subordinate_ids(text, "bob", 1002), IsEmpty());
}

TEST(SubordinateIds, SkipsLinesThatDoNotParse) {
  const auto text =
      "alice\nalice:1\nalice:x:5\nalice:5:x\nalice:5:0\nalice:0:65536\nalice:-5:10\nalice:4294967295:2\nalice:7:8:9\n:"
      "1:2\n\nalice:70000:80";
  EXPECT_THAT(parse_subordinate_ids(text, "alice", 1001), ElementsAre(SubordinateRange{70000, 80}));
}

TEST(UserRanges, AgentIsTheUserAndRootIsSubordinate) {
  EXPECT_THAT(user_ranges({{165536, 65536}}, 1234, "alice", "--add-subuids"),
              ElementsAre(IdRange{0, 165536, 1000}, IdRange{1000, 1234, 1}, IdRange{1001, 166536, 64535 - 0}));
}

TEST(UserRanges, ManyIdsAreCutAtSixteenBits) {
  const auto ranges = user_ranges({{1000000, 1000000}}, 1234, "alice", "--add-subuids");
  EXPECT_EQ(ranges[2].inside + ranges[2].count, 65536u);
}

TEST(UserRanges, NoHostIdTwiceAndNoneBeyondTheRange) {
  for (const unsigned count : {1001u, 1002u, 5000u, 65536u, 100000u}) {
    const auto ranges = user_ranges({{165536, count}}, 1234, "alice", "--add-subuids");
    EXPECT_EQ(ranges[0].outside + ranges[0].count, ranges[2].outside);
    EXPECT_LE(ranges[2].outside + ranges[2].count, 165536 + count);
    EXPECT_GE(ranges[2].count, 1u);
  }
}

TEST(UserRanges, TooFewNamesTheRemedy) {
  for (const auto& ranges : {std::vector<SubordinateRange>{}, std::vector<SubordinateRange>{{165536, 1000}},
                             std::vector<SubordinateRange>{{1000, 60000}}})
    try {
      user_ranges(ranges, 1234, "alice", "--add-subgids");
      FAIL() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::host_lacks);
      EXPECT_THAT(error.message(), HasSubstr("/etc/subgid"));
      EXPECT_EQ(error.hint(), "sudo usermod --add-subgids 100000-165535 alice");
    }
}

TEST(WorkspaceOwner, IsWhoTheAgentIsMappedTo) {
  const IdMap user{user_ranges({{165536, 65536}}, 1234, "a", "--add-subuids"),
                   user_ranges({{265536, 65536}}, 5678, "a", "--add-subgids")};
  EXPECT_EQ(workspace_owner(user).uid, 1234u);
  EXPECT_EQ(workspace_owner(user).gid, 5678u);
  const IdMap root{shifted_ranges(100000), shifted_ranges(200000)};
  EXPECT_EQ(workspace_owner(root).uid, 101000u);
  EXPECT_EQ(workspace_owner(root).gid, 201000u);
}

}  // namespace
}  // namespace agentvm
