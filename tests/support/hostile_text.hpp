#pragma once
// What a guest may call its branches, files and processes, and say in messages: one corpus for every place that shows
// such text, and a judge that knows nothing of the cleaner.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace agentvm::test {

/// A line of its own, once a newline came before it.
inline constexpr std::string_view forged_line = "Forged: by the guest";

inline const std::vector<std::string>& hostile_texts() {
  static const std::vector<std::string> texts = [] {
    std::vector<std::string> all = {
        "\x1b]52;c;cHduZWQ=\x07",     // OSC 52: the clipboard
        "\x1b]8;;http://x\x1b\\y",    // OSC 8: a link
        "\x1b]0;title\x07",           // OSC 0
        "\x1bP$qm\x1b\\",             // DCS
        "\x1b_Gq\x1b\\",              // APC
        "\x1b[6n\x1b[2J\x1b[?1049h",  // CSI: a reply, clear, the other screen
        "\xc2\x9b"
        "31m",  // C1 CSI as UTF-8
        "\x9b"
        "31m",                        // C1 CSI as a byte
        "\xc2\x85x",                  // C1 NEL
        "x\rSandbox: another",        // over its own line
        "x\b\b\x7f\x0b\x0c",          // backspace, DEL, other feeds
        std::string("x\0y", 3),       // NUL
        "\u202Etxt.exe\u202C",        // bidirectional override
        "\u2066x\u2069\u200F\u061C",  // isolates and marks
        "a\u200Bb\u2060\uFEFF",       // zero width
        "\U000E0041\U000E007F",       // tag characters
        "\u2028"
        "x\u2029",               // line and paragraph separator
        "\xc0\xaf\xe0\x80\xaf",  // overlong
        "\xed\xa0\x80",          // surrogate
        "\xf4\x90\x80\x80",      // above U+10FFFF
        "x\xe2\x82",             // cut short
        "\xff\xfe",              // never UTF-8
    };
    all.push_back("x\n" + std::string(forged_line));
    all.push_back("x\r\n" + std::string(forged_line));
    all.push_back(std::string(100'000, 'w') + "\x1b[2J");
    std::string everything;
    for (const auto& text : all)
      if (text.size() < 100) everything += text;
    all.push_back(everything);
    return all;
  }();
  return texts;
}

/// The code point at the front of `text`, which it takes away; -1 where there is no UTF-8.
inline std::int32_t take_code_point(std::string_view& text) {
  const auto first = static_cast<unsigned char>(text.front());
  const int more = first < 0x80 ? 0 : first >= 0xF0 && first < 0xF8 ? 3 : first >= 0xE0 ? 2 : first >= 0xC0 ? 1 : -1;
  if (more < 0 || first >= 0xF8 || text.size() < static_cast<std::size_t>(more) + 1) return -1;
  std::int32_t code = more == 0 ? first : first & (0x3F >> more);
  for (int i = 1; i <= more; ++i) {
    const auto byte = static_cast<unsigned char>(text[static_cast<std::size_t>(i)]);
    if ((byte & 0xC0) != 0x80) return -1;
    code = code << 6 | (byte & 0x3F);
  }
  constexpr std::int32_t least[] = {0, 0x80, 0x800, 0x10000};
  if (code < least[more] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return -1;
  text.remove_prefix(static_cast<std::size_t>(more) + 1);
  return code;
}

/// What in `text` steers a terminal, hides, reorders, is no UTF-8, or begins a line that the guest wrote; empty:
/// nothing. Newlines of our own may stand in it.
inline std::string harm_in(std::string_view text) {
  if (text.starts_with(forged_line) || text.find("\n" + std::string(forged_line)) != std::string_view::npos)
    return "a line of the guest's";
  for (std::size_t at = text.size(); !text.empty();) {
    const auto here = at - text.size();
    const auto code = take_code_point(text);
    const auto between = [code](std::int32_t low, std::int32_t high) { return code >= low && code <= high; };
    if (code < 0) return "no UTF-8 at " + std::to_string(here);
    if ((code < 0x20 && code != '\n' && code != '\t') || between(0x7F, 0x9F))
      return "the control " + std::to_string(code) + " at " + std::to_string(here);
    if (code == 0x61C || between(0x200B, 0x200F) || between(0x2028, 0x202E) || between(0x2060, 0x2069) ||
        code == 0xFEFF || between(0xE0000, 0xE007F))
      return "the format character " + std::to_string(code) + " at " + std::to_string(here);
  }
  return {};
}

}  // namespace agentvm::test
