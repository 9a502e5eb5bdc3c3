// What two trees share is left out, byte for byte: whatever a tree brings that the one before had not is judged.
#include "sync/git/tree.hpp"

#include <algorithm>
#include <random>

#include <gtest/gtest.h>

namespace agentvm::git {
namespace {

std::string record(const std::string& mode, const std::string& name, char id) {
  return mode + " " + name + std::string(1, '\0') + std::string(20, id);
}

std::vector<std::string> records(const std::vector<TreeEntry>& entries) {
  std::vector<std::string> result;
  for (const auto& entry : entries) result.emplace_back(entry.record);
  return result;
}

TEST(TreeEntries, KeepTheirBytes) {
  const auto tree = record("100644", "a", 1) + record("40000", "b", 2);
  const auto entries = parse_tree(tree);
  ASSERT_TRUE(entries && entries->size() == 2);
  EXPECT_EQ(entries->front().record, record("100644", "a", 1));
  EXPECT_EQ(entries->back().record, record("40000", "b", 2));
  EXPECT_EQ(entries->back().name, "b");
  EXPECT_EQ(entries->back().raw_oid, std::string(20, 2));
}

TEST(TreeEntries, BesidesThoseOfAnotherTree) {
  const auto known_text = record("100644", "a", 1) + record("100644", "c", 1) + record("40000", "d", 1);
  const auto known = parse_tree(known_text);
  // Another id, another mode, a folder for a file, a new name, and one that is the same.
  for (const auto& [text, others] :
       std::vector<std::pair<std::string, std::size_t>>{{known_text, 0},
                                                        {record("100644", "a", 2), 1},
                                                        {record("120000", "a", 1), 1},
                                                        {record("40000", "a", 1), 1},
                                                        {record("0100644", "a", 1), 1},
                                                        {record("100644", "b", 1) + record("100644", "c", 1), 1},
                                                        {record("40000", "d", 1) + record("100644", "e", 1), 1}}) {
    const auto entries = parse_tree(text);
    EXPECT_EQ(entries_besides(*known, *entries).size(), others) << text;
  }
}

/// Trees of any form, ordered or not: what is left out stands in the other one, and of ordered ones nothing more stays.
TEST(TreeEntries, BesidesAgainstAPlainSearch) {
  std::mt19937 random(7);
  const auto pick = [&](int count) { return static_cast<int>(random() % static_cast<unsigned>(count)); };
  for (int round = 0; round < 3000; ++round) {
    std::string texts[2];
    const bool ordered = pick(2) == 0;
    for (auto& text : texts) {
      std::vector<std::string> names;
      for (int i = pick(8); i > 0; --i) names.push_back(std::string(1, static_cast<char>('a' + pick(6))));
      if (ordered) {
        std::sort(names.begin(), names.end());
        names.erase(std::unique(names.begin(), names.end()), names.end());
      }
      for (const auto& name : names)
        text += record(pick(4) == 0 ? "120000" : "100644", name, static_cast<char>(1 + pick(2)));
    }
    const auto known = parse_tree(texts[0]), entries = parse_tree(texts[1]);
    const auto all = records(*known);
    std::vector<std::string> exactly;
    for (const auto& entry : *entries)
      if (std::find(all.begin(), all.end(), entry.record) == all.end()) exactly.emplace_back(entry.record);
    const auto found = records(entries_besides(*known, *entries));
    if (ordered) {
      EXPECT_EQ(found, exactly);
      continue;
    }
    for (const auto& missing : exactly)
      EXPECT_EQ(std::count(found.begin(), found.end(), missing), std::count(exactly.begin(), exactly.end(), missing));
  }
}

TEST(TreeEntries, FindsWhatHasTheNameAndTheKind) {
  const auto text = record("100644", "a", 1) + record("100644", "a.b", 1) + record("40000", "a", 1);
  const auto entries = parse_tree(text);
  for (const auto& entry : *entries) EXPECT_EQ(find_entry(*entries, entry), &entry) << entry.name;
  const auto link_text = record("120000", "a", 2), folder_text = record("40000", "a.b", 2);
  EXPECT_EQ(find_entry(*entries, parse_tree(link_text)->front()), &entries->front());
  EXPECT_EQ(find_entry(*entries, parse_tree(folder_text)->front()), nullptr);
}

}  // namespace
}  // namespace agentvm::git
