#include "vmm/base/text.hpp"

#include <cstdint>

#include <fmt/format.h>

namespace agentvm {
namespace {

struct Decoded {
  std::uint32_t point = 0;
  std::size_t length = 0;  // 0: invalid
};

/// Strict UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF.
Decoded decode(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80) return {lead, 1};
  const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length) return {};
  std::uint32_t point = lead & (0xFFU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    const auto next = static_cast<unsigned char>(text[i]);
    if ((next & 0xC0) != 0x80) return {};
    point = point << 6 | (next & 0x3F);
  }
  constexpr std::uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (point < smallest[length] || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF)) return {};
  return {point, length};
}

/// Unicode's general categories Cc, Cf, Zl, Zp as far as they can hide or reorder text, and variation/tag characters.
bool is_deceptive(std::uint32_t p) {
  return p < 0x20 || (p >= 0x7F && p < 0xA0) || p == 0xAD || p == 0x61C || p == 0x180E ||
         (p >= 0x200B && p <= 0x200F) || (p >= 0x2028 && p <= 0x202E) || (p >= 0x2060 && p <= 0x206F) || p == 0xFEFF ||
         (p >= 0xFFF9 && p <= 0xFFFB) || (p >= 0xE0000 && p <= 0xE0FFF);
}

}  // namespace

std::string clean_guest_text(std::string_view text, Newlines newlines, std::size_t limit_bytes) {
  std::string result;
  while (!text.empty()) {
    const auto [point, length] = decode(text);
    std::string piece;
    if (length == 0)
      piece = fmt::format("\\x{:02x}", static_cast<unsigned char>(text[0]));
    else if (point == '\t' || (point == '\n' && newlines == Newlines::keep))
      piece = static_cast<char>(point);
    else if (point == '\n')
      piece = "\\n";
    else if (is_deceptive(point))
      piece = point < 0x100 ? fmt::format("\\x{:02x}", point) : fmt::format("\\u{{{:04x}}}", point);
    else
      piece = std::string(text.substr(0, length));
    if (result.size() + piece.size() > limit_bytes) return result + "...";
    result += piece;
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return result;
}

std::string shell_word(const std::string& text) {
  constexpr std::string_view plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@%+=,";
  if (!text.empty() && text.find_first_not_of(plain) == std::string::npos) return text;
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

}  // namespace agentvm
