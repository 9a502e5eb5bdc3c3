#include "vmm/decoys.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>

#include "vmm/base/error.hpp"
#include "vmm/config.hpp"

namespace agentvm {
namespace {

using testing::HasSubstr;

std::string seed(unsigned first) {
  std::string bytes;
  for (unsigned i = 0; i < decoy_seed_bytes; ++i) bytes += static_cast<char>(first + 37 * i);
  return bytes;
}

TEST(Decoys, TheKeyNamesWhatThereIs) {
  std::vector<std::string_view> names;
  for (const auto& kind : decoy_kinds()) names.push_back(kind.name);
  EXPECT_EQ(fmt::format("{}", fmt::join(names, "|")), find_config_key("decoys")->choices);
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
  EXPECT_THROW(find_decoy_kind("gitlab"), Error);
}

TEST(Decoys, ValuesAreLongRandomAndTheSameInEveryUrl) {
  for (const auto& kind : decoy_kinds()) {
    const auto values = decoy_values(kind, seed(1)), others = decoy_values(kind, seed(2));
    ASSERT_EQ(values.size(), kind.values.size()) << kind.name;
    EXPECT_EQ(values, decoy_values(kind, seed(1)));
    for (std::size_t i = 0; i < values.size(); ++i) {
      EXPECT_GE(kind.values[i].length, 16u);
      EXPECT_TRUE(values[i].starts_with(kind.values[i].prefix));
      EXPECT_NE(values[i], others[i]);
      EXPECT_EQ(values[i].find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"),
                std::string::npos)
          << values[i];
      EXPECT_THAT(decoy_content(kind, values), HasSubstr(values[i]));
    }
    EXPECT_TRUE(decoy_content(kind, values).ends_with("\n"));
    EXPECT_EQ(decoy_content(kind, values).find('{'), std::string::npos);
    EXPECT_FALSE(kind.file.starts_with('/'));
    EXPECT_FALSE(kind.hosts.empty());
  }
}

}  // namespace
}  // namespace agentvm
