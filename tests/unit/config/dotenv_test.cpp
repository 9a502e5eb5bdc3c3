#include <gmock/gmock.h>

#include "tests/support/temporary_folder.hpp"
#include "vmm/config.hpp"

namespace agentvm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::Pair;

TEST(Dotenv, ReadsWhatSuchFilesSay) {
  const auto read = parse_dotenv(
      "# a comment\n"
      "PLAIN=one two  # said of it\n"
      "\n"
      "  export SHELL_TOO = spaced\r\n"
      "HASH=a#b\n"
      "EMPTY=\n"
      "RAW='$HOME \\n #'  # behind\n"
      "ESCAPED=\"a\\nb \\\"c\\\" \\$d \\w\"\n"
      "LINES=\"first\nsecond\"\n"
      "URL=postgres://u:p@h/db?a=b\n"
      "PLAIN2='x'\n"
      "LAST=end",
      ".env");
  EXPECT_THAT(read, ElementsAre(Pair("EMPTY", ""), Pair("ESCAPED", "a\nb \"c\" $d \\w"), Pair("HASH", "a#b"),
                                Pair("LAST", "end"), Pair("LINES", "first\nsecond"), Pair("PLAIN", "one two"),
                                Pair("PLAIN2", "x"), Pair("RAW", "$HOME \\n #"), Pair("SHELL_TOO", "spaced"),
                                Pair("URL", "postgres://u:p@h/db?a=b")));
  EXPECT_TRUE(parse_dotenv("", ".env").empty());
  EXPECT_TRUE(parse_dotenv("\xEF\xBB\xBF# with a byte order mark\n", ".env").empty());
  EXPECT_EQ(parse_dotenv("A=1\nA=2\n", ".env").at("A"), "2") << "the last one counts";
}

TEST(Dotenv, WhatItCannotReadIsNamedByItsPlaceAlone) {
  for (const auto& [text, where] : std::map<std::string, std::string>{{"A=1\nsecret\n", ".env:2: "},
                                                                      {"A=1\n\n1A=secret\n", ".env:3: "},
                                                                      {"A B=secret\n", ".env:1: "},
                                                                      {"A='secret\n", ".env:1: "},
                                                                      {"A=\"secret\" more\n", ".env:1: "},
                                                                      {"=secret\n", ".env:1: "},
                                                                      {std::string("A='s\0'", 6), ".env:1: "}}) {
    const auto error = test::error_of([&, &broken = text] { parse_dotenv(broken, ".env"); });
    ASSERT_TRUE(error) << text;
    EXPECT_EQ(error->code(), ErrorCode::usage);
    EXPECT_THAT(error->message(), testing::StartsWith(where));
    EXPECT_THAT(error->message(), Not(HasSubstr("secret")));
  }
}

}  // namespace
}  // namespace agentvm
