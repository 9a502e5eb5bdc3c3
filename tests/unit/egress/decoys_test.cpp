#include "proxy/egress/decoys.hpp"

#include <algorithm>
#include <random>

#include <gmock/gmock.h>

#include "vmm/base/base64.hpp"
#include "vmm/base/error.hpp"

namespace agentvm::egress {
namespace {

const std::string key = "AKIAQ2W3E4R5T6Y7U3I4", token = "ghp_0123456789abcdefghijABCDEFGHIJ012345";

std::vector<Decoy> two_decoys() {
  return {{"aws", {key}, {HostRule::parse("*.amazonaws.com", "decoys")}},
          {"github", {token}, {HostRule::parse("github.com", "decoys")}}};
}

std::string found(std::string_view text) {
  static const DecoySearch search(two_decoys());
  return std::string(search.find(text));
}

TEST(DecoySearch, FindsValuesWhereverTheyStand) {
  EXPECT_EQ(found(key), "aws");
  EXPECT_EQ(found("Credential=" + key + "/20260101/eu/s3"), "aws");
  EXPECT_EQ(found("{\"token\":\"" + token + "\"}"), "github");
  EXPECT_EQ(found(std::string(5000, 'A') + token), "github");
  EXPECT_EQ(found(""), "");
  EXPECT_EQ(found(key.substr(1)), "");
  EXPECT_EQ(found(key.substr(0, key.size() - 1)), "");
  EXPECT_EQ(found("AKIAQ2W3E4R5T6Y7U3I5 GHP_0123456789abcdefghijABCDEFGHIJ012345"), "");
}

TEST(DecoySearch, FindsThemInBase64WhateverStandsAround) {
  for (std::size_t before = 0; before < 7; ++before)
    for (std::size_t after = 0; after < 4; ++after) {
      const auto text = base64_encode(std::string(before, 'u') + token + std::string(after, ':'));
      EXPECT_EQ(found("Authorization: Basic " + text), "github") << before << ' ' << after;
    }
}

TEST(DecoySearch, FindsThemInBase64ForUrls) {
  const std::string value = "~~~>>>~~~>>>~~~>>>";  // whose digits are the two that differ
  const DecoySearch search({{"odd", {value}, {}}});
  auto text = base64_encode(value);
  ASSERT_NE(text.find_first_of("+/"), text.npos);
  std::replace(text.begin(), text.end(), '+', '-');
  std::replace(text.begin(), text.end(), '/', '_');
  EXPECT_EQ(search.find(text), "odd");
}

TEST(DecoySearch, RefusesWhatOtherTextCouldHold) {
  EXPECT_THROW(DecoySearch({{"short", {std::string(DecoySearch::least_bytes - 1, 'x')}, {}}}), Error);
  EXPECT_NO_THROW(DecoySearch({{"long", {std::string(DecoySearch::least_bytes, 'x')}, {}}}));
}

/// Against the search that cannot be wrong, in text that nearly matches.
TEST(DecoySearch, AgreesWithAPlainSearch) {
  std::mt19937 random(7);
  const DecoySearch search({{"a", {"abababababababab"}, {}}, {"b", {"abababababababba"}, {}}});
  int hits = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string text(random() % 60, '\0');
    for (auto& c : text)
      c = random() % 12 == 0 ? "cb"[random() % 2] : text.data() == &c || *(&c - 1) != 'a' ? 'a' : 'b';
    const bool holds = text.find("abababababababab") != text.npos || text.find("abababababababba") != text.npos;
    hits += holds;
    ASSERT_EQ(!search.find(text).empty(), holds) << text;
  }
  EXPECT_GT(hits, 100);
}

TEST(DecoyScanner, FindsWhatComesInPieces) {
  const auto search = std::make_shared<const DecoySearch>(two_decoys());
  const auto encoded = base64_encode("x:" + token);
  for (const auto& text : {"12" + key + "34", "12" + encoded + "34"})
    for (std::size_t size = 1; size <= text.size(); ++size) {
      DecoyScanner scanner(search);
      std::string found;
      for (std::size_t at = 0; at < text.size() && found.empty(); at += size)
        found = scanner.scan(std::string_view(text).substr(at, size));
      EXPECT_NE(found, "") << text << " by " << size;
    }
}

TEST(DecoyScanner, DoesNotJoinWhatDoesNotFollow) {
  const auto search = std::make_shared<const DecoySearch>(two_decoys());
  DecoyScanner scanner(search);
  EXPECT_EQ(scanner.scan(key.substr(0, 10)), "");
  EXPECT_EQ(scanner.scan("-"), "");
  EXPECT_EQ(scanner.scan(key.substr(10)), "");
  EXPECT_EQ(DecoyScanner().scan(key), "");
}

TEST(Decoy, IsForItsHostsAtTheirPort) {
  const auto all = two_decoys();
  EXPECT_TRUE(all[0].is_for({"sts.amazonaws.com", 443}));
  EXPECT_FALSE(all[0].is_for({"sts.amazonaws.com", 80}));
  EXPECT_FALSE(all[0].is_for({"amazonaws.com", 443}));
  EXPECT_TRUE(all[1].is_for({"github.com", 443}));
  EXPECT_FALSE(all[1].is_for({"x.github.com", 443}));
}

}  // namespace
}  // namespace agentvm::egress
