#include "cli/manager/ops/start_history.hpp"

#include <gtest/gtest.h>

#include "tests/support/temporary_folder.hpp"

namespace agentvm::manager {
namespace {

Json start(long long disk, long long ready) {
  return Json::array({{{"phase", "disk"}, {"milliseconds", disk}}, {{"phase", "ready"}, {"milliseconds", ready}}});
}

TEST(StartHistory, ComparesWithTheMedianOfItsKind) {
  test::TemporaryFolder folder;
  const auto file = folder.path() / "starts.json";
  EXPECT_EQ(with_medians(file, "tcg", start(1, 2))[0]["median_milliseconds"], nullptr);
  for (const auto ready : {900, 100, 500}) remember_start(file, "tcg", start(7, ready));
  remember_start(file, "kvm", start(1, 3));
  auto now = start(8, 600);
  now.push_back({{"phase", "new"}, {"milliseconds", 5}});
  const auto told = with_medians(file, "tcg", now);
  EXPECT_EQ(told[0]["median_milliseconds"], 7);
  EXPECT_EQ(told[1]["median_milliseconds"], 500);
  EXPECT_EQ(told[1]["milliseconds"], 600);
  EXPECT_EQ(told[2]["median_milliseconds"], nullptr);
  EXPECT_EQ(with_medians(file, "kvm", now)[1]["median_milliseconds"], 3);
}

TEST(StartHistory, KeepsTheLastTwentyAndOutlivesADamagedFile) {
  test::TemporaryFolder folder;
  const auto file = folder.path() / "starts.json";
  write_file_atomic(file, "nonsense");
  for (int i = 0; i < 15; ++i) remember_start(file, "tcg", start(1, 1));
  for (int i = 0; i < 20; ++i) remember_start(file, "tcg", start(9, 9));
  EXPECT_EQ(with_medians(file, "tcg", start(0, 0))[0]["median_milliseconds"], 9);
  EXPECT_LT(read_file(file).size(), 4096u);
}

}  // namespace
}  // namespace agentvm::manager
