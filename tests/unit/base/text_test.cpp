#include "vmm/base/text.hpp"

#include <gmock/gmock.h>
#include <rapidcheck.h>

#include "tests/support/hostile_text.hpp"

namespace agentvm {
namespace {

TEST(CleanGuestText, CorpusOfAttacks) {
  const std::pair<std::string, std::string> cases[] = {
      {"\x1b]52;c;cHduZWQ=\x07", "\\x1b]52;c;cHduZWQ=\\x07"},    // OSC 52: the clipboard
      {"\x1b]8;;http://x\x1b\\y", "\\x1b]8;;http://x\\x1b\\y"},  // OSC 8: a link
      {"\x1b]0;title\x07", "\\x1b]0;title\\x07"},                // OSC 0
      {"\x1bP$qm\x1b\\", "\\x1bP$qm\\x1b\\"},                    // DCS
      {"\x1b_Gq\x1b\\", "\\x1b_Gq\\x1b\\"},                      // APC
      {"\x1b[6n\x1b[2J", "\\x1b[6n\\x1b[2J"},                    // CSI: a reply, and clear
      {"\xc2\x9b"
       "31m",
       "\\x9b31m"},  // C1 CSI as UTF-8
      {"\x9b"
       "31m",
       "\\x9b31m"},                                    // C1 CSI as a raw byte: invalid UTF-8
      {"a\rb", "a\\x0db"},                             // overwrites its line
      {"a\bb\x7f", "a\\x08b\\x7f"},                    // backspace, DEL
      {std::string("a\0b", 3), "a\\x00b"},             // NUL
      {"\u202Eevil\u202C", "\\u{202e}evil\\u{202c}"},  // bidirectional override
      {"\u2066x\u2069", "\\u{2066}x\\u{2069}"},        // isolates
      {"a\u200Bb\uFEFF", "a\\u{200b}b\\u{feff}"},      // zero width
      {"\U000E0041", "\\u{e0041}"},                    // tag characters
      {"\u2028", "\\u{2028}"},                         // line separator
      {"\xc0\xaf", "\\xc0\\xaf"},                      // overlong
      {"\xed\xa0\x80", "\\xed\\xa0\\x80"},             // surrogate
      {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},    // above U+10FFFF
      {"\xe2\x82", "\\xe2\\x82"},                      // cut short
      {"\xff\xfe", "\\xff\\xfe"},
      {"a\tb", "a\tb"},
      {"a\nb", "a\\nb"},
      {"gr\u00fc\u00df dich, \u4e16\u754c \U0001F600", "gr\u00fc\u00df dich, \u4e16\u754c \U0001F600"},
  };
  for (const auto& [text, expected] : cases) EXPECT_EQ(clean_guest_text(text), expected);
  EXPECT_EQ(clean_guest_text("a\nb\r\n", Newlines::keep), "a\nb\\x0d\n");
}

TEST(CleanGuestText, NothingOfTheSharedCorpusDoesHarm) {
  for (const auto& text : test::hostile_texts()) {
    for (const auto limit_bytes : {1u, 80u, 4096u}) {
      EXPECT_EQ(test::harm_in(clean_guest_text(text, Newlines::escape, limit_bytes)), "");
      EXPECT_LE(clean_guest_text(text, Newlines::escape, limit_bytes).size(), limit_bytes + 3);
    }
    // The judge is none if it lets the corpus pass.
    EXPECT_NE(test::harm_in(text), "") << testing::PrintToString(text.substr(0, 60));
  }
  EXPECT_EQ(test::harm_in("gr\u00fc\u00df dich, \u4e16\u754c \U0001F600\n\tok"), "");
}

TEST(CleanGuestText, OutputOfAnyBytesIsHarmlessAndBounded) {
  EXPECT_TRUE(rc::check([] {
    const auto text = *rc::gen::container<std::string>(rc::gen::arbitrary<char>());
    const auto limit = *rc::gen::inRange<std::size_t>(0, 100);
    const auto cleaned = clean_guest_text(text, Newlines::escape, limit);
    RC_ASSERT(cleaned.size() <= limit + 3);
    for (const unsigned char c : cleaned) RC_ASSERT(c == '\t' || (c >= 0x20 && c != 0x7f));
    // Valid UTF-8 without C1: cleaning again finds nothing more to do (the marks it made are plain text).
    RC_ASSERT(clean_guest_text(cleaned, Newlines::escape, cleaned.size()) == cleaned);
  }));
}

TEST(CleanGuestText, CutsBetweenCharactersAndSaysSo) {
  EXPECT_EQ(clean_guest_text("\u4e16\u754c", Newlines::escape, 4), "\u4e16...");
  EXPECT_EQ(clean_guest_text("abc", Newlines::escape, 3), "abc");
  EXPECT_EQ(clean_guest_text("abcd", Newlines::escape, 3), "abc...");
}

TEST(ShellWord, QuotesWhatAShellWouldRead) {
  EXPECT_EQ(shell_word("refs/agentvm/box/a-b.c"), "refs/agentvm/box/a-b.c");
  EXPECT_EQ(shell_word("a;rm -rf"), "'a;rm -rf'");
  EXPECT_EQ(shell_word("it's"), "'it'\\''s'");
  EXPECT_EQ(shell_word("$(x)"), "'$(x)'");
  EXPECT_EQ(shell_word(""), "''");
}

}  // namespace
}  // namespace agentvm
