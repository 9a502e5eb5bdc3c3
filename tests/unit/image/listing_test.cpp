#include "guest/image/listing.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.hpp"

namespace agentvm {
namespace {

std::string with_zeros(std::string text) {
  for (auto& c : text)
    if (c == '|') c = '\0';
  return text;
}

TEST(DiskListing, ComesBackAsItWas) {
  const ListedEntry file{
      .name = "odd\nname \x1b]0;x", .mode = 0100644, .uid = 1000, .gid = 7, .size = 1ULL << 40, .modified = -5};
  const ListedEntry link{.name = "l", .target = "../a b", .mode = 0120777, .modified = 1'700'000'000};
  const auto back = parse_listing(format_listed(file) + format_listed(link));
  ASSERT_EQ(back.size(), 2U);
  EXPECT_EQ(back[0].name, file.name);
  EXPECT_EQ(back[0].mode, file.mode);
  EXPECT_EQ(back[0].uid, 1000U);
  EXPECT_EQ(back[0].gid, 7U);
  EXPECT_EQ(back[0].size, file.size);
  EXPECT_EQ(back[0].modified, -5);
  EXPECT_EQ(back[1].target, "../a b");
  EXPECT_TRUE(parse_listing("").empty());
}

TEST(DiskListing, WhatIsNoneIsRefused) {
  for (const char* bytes :
       {"100644 0 0 1 1|a|", "100644 0 0 1 1|a", "100644 0 0 1|a||", "100644 0 0 1 1 1|a||", "100684 0 0 1 1|a||",
        "100644 -1 0 1 1|a||", "100644  0 0 1 1|a||", "|a||", "100644 0 0 1 1|||", "100644 0 0 1 1|.||",
        "100644 0 0 1 1|..||", "100644 0 0 1 1|a/b||", "100644 0 0 99999999999999999999 1|a||"}) {
    const auto error = test::error_of([&] { parse_listing(with_zeros(bytes)); });
    ASSERT_TRUE(error) << bytes;
    EXPECT_EQ(error->code(), ErrorCode::operation_failed);
  }
}

}  // namespace
}  // namespace agentvm
