#include "vmm/lifecycle.hpp"

#include <deque>
#include <set>

#include <gmock/gmock.h>

#include "tests/support/temporary_folder.hpp"

namespace agentvm {
namespace {

using test::error_of;
using testing::HasSubstr;
using testing::StartsWith;

// The whole table by hand, one row per state, one cell per event in the order of the head line; "-" is refused. It is
// written out a second time on purpose: a change of the product's table has to be made here too.
constexpr std::string_view expected_table =
    "state       start      prepared  ready    pause   resume   saved  stop      ended    crashed  failed      "
    "destroy\n"
    "defined     preparing  -         -        -       -        -      -         -        -        -           "
    "destroying\n"
    "preparing   -          starting  -        -       -        -      stopping  -        -        failed      "
    "destroying\n"
    "starting    -          -         running  -       -        saved  stopping  failed   failed   failed      "
    "destroying\n"
    "running     -          -         -        paused  -        saved  stopping  stopped  failed   -           "
    "destroying\n"
    "paused      -          -         -        -       running  saved  stopping  stopped  failed   -           "
    "destroying\n"
    "saved       starting   -         -        -       -        -      stopped   -        -        -           "
    "destroying\n"
    "stopping    -          -         -        -       -        -      stopping  stopped  stopped  failed      "
    "destroying\n"
    "stopped     preparing  -         -        -       -        -      -         -        -        -           "
    "destroying\n"
    "failed      preparing  -         -        -       -        -      stopping  -        -        -           "
    "destroying\n"
    "destroying  -          -         -        -       -        -      -         -        -        destroying  "
    "destroying\n";

std::vector<std::vector<std::string>> cells(std::string_view table) {
  std::vector<std::vector<std::string>> rows;
  std::istringstream lines{std::string(table)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    rows.emplace_back(std::istream_iterator<std::string>(words), std::istream_iterator<std::string>());
  }
  return rows;
}

TEST(Lifecycle, EveryCellIsAsWritten) {
  const auto rows = cells(expected_table);
  ASSERT_EQ(rows.size(), all_states().size() + 1);
  for (std::size_t r = 1; r < rows.size(); ++r) {
    ASSERT_EQ(rows[r].size(), all_events().size() + 1);
    const auto state = all_states()[r - 1];
    EXPECT_EQ(rows[r][0], to_string(state));
    for (std::size_t c = 1; c < rows[r].size(); ++c) {
      const auto event = all_events()[c - 1];
      EXPECT_EQ(rows[0][c], to_string(event));
      const auto result = try_next(state, event);
      EXPECT_EQ(rows[r][c], result ? to_string(*result) : "-") << to_string(state) << " x " << to_string(event);
    }
  }
}

TEST(Lifecycle, MarkdownSaysTheSame) {
  const auto text = lifecycle_markdown();
  std::istringstream lines(text);
  std::vector<std::string> rows;
  for (std::string line; std::getline(lines, line);) rows.push_back(line);
  ASSERT_EQ(rows.size(), all_states().size() + 2);
  const auto expected = cells(expected_table);
  for (std::size_t r = 1; r < expected.size(); ++r) {
    std::string row = "| **" + expected[r][0] + "** |";
    for (std::size_t c = 1; c < expected[r].size(); ++c)
      row += expected[r][c] == "-" ? " |" : " " + expected[r][c] + " |";
    EXPECT_EQ(rows[r + 1], row);
  }
}

TEST(Lifecycle, RefusalNamesStateEventAndACommand) {
  for (const auto state : all_states())
    for (const auto event : all_events()) {
      const auto error = error_of([&] { next(state, event, "demo"); });
      ASSERT_EQ(error.has_value(), !try_next(state, event)) << to_string(state) << " x " << to_string(event);
      if (!error) continue;
      EXPECT_EQ(error->code(), ErrorCode::wrong_state);
      EXPECT_THAT(error->message(), HasSubstr("'demo' is " + std::string(to_string(state))));
      EXPECT_THAT(error->hint(), StartsWith("agentvm "));
      EXPECT_THAT(error->hint(), HasSubstr("demo"));
    }
  EXPECT_EQ(error_of([] { next(SandboxState::running, SandboxEvent::start, "demo"); })->message(),
            "sandbox 'demo' is running: it cannot be started now");
  EXPECT_EQ(error_of([] { next(SandboxState::running, SandboxEvent::start, "demo"); })->hint(), "agentvm attach demo");
  EXPECT_EQ(error_of([] { next(SandboxState::stopped, SandboxEvent::stop, "demo"); })->hint(), "agentvm status demo");
}

TEST(Lifecycle, NothingIsADeadEnd) {
  for (const auto start : all_states()) {
    std::set<SandboxState> seen{start};
    std::deque<SandboxState> open{start};
    while (!open.empty()) {
      for (const auto event : all_events())
        if (const auto to = try_next(open.front(), event); to && seen.insert(*to).second) open.push_back(*to);
      open.pop_front();
    }
    EXPECT_TRUE(seen.contains(SandboxState::destroying)) << to_string(start);
    EXPECT_EQ(seen.contains(SandboxState::running), start != SandboxState::destroying) << to_string(start);
    EXPECT_TRUE(start != SandboxState::destroying || seen.size() == 1) << "nothing comes back from destroying";
  }
}

TEST(Lifecycle, TransitionalStatesCanFailAndBeTakenUpAgain) {
  for (const auto state : all_states()) {
    if (!is_transitional(state)) continue;
    EXPECT_TRUE(try_next(state, SandboxEvent::failed)) << to_string(state);
    EXPECT_TRUE(may_have_machine(state)) << to_string(state);
  }
  EXPECT_FALSE(may_have_machine(SandboxState::stopped));
  EXPECT_TRUE(may_have_machine(SandboxState::failed)) << "an undo may have failed too";
}

TEST(Lifecycle, NamesAreReversible) {
  for (const auto state : all_states()) EXPECT_EQ(sandbox_state_from(to_string(state)), state);
  EXPECT_EQ(error_of([] { sandbox_state_from("asleep"); })->code(), ErrorCode::operation_failed);
}

}  // namespace
}  // namespace agentvm
