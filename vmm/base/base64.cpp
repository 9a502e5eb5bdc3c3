#include "vmm/base/base64.hpp"

#include <cstdint>

#include "vmm/base/error.hpp"

namespace agentvm {
namespace {
constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

[[noreturn]] void refuse() {
  throw Error(ErrorCode::operation_failed, "not valid base64");
}

std::uint32_t digit(char c) {
  const auto found = alphabet.find(c);
  if (found == std::string_view::npos) refuse();
  return static_cast<std::uint32_t>(found);
}
}  // namespace

std::string base64_encode(std::string_view bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t count = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k)
      group = group << 8 | (k < count ? static_cast<unsigned char>(bytes[i + k]) : 0U);
    for (std::size_t k = 0; k < 4; ++k) text += k <= count ? alphabet[group >> (18 - 6 * k) & 63] : '=';
  }
  return text;
}

std::string base64_decode(std::string_view text) {
  if (text.size() % 4 != 0) refuse();
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  for (std::size_t i = 0; i < text.size(); i += 4) {
    const auto group_text = text.substr(i, 4);
    const bool last = i + 4 == text.size();
    const std::size_t padding = !last ? 0 : group_text.ends_with("==") ? 2 : group_text.ends_with("=") ? 1 : 0;
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 4; ++k) group = group << 6 | (k < 4 - padding ? digit(group_text[k]) : 0U);
    if (padding > 0 && (group & ((1U << (8 * padding)) - 1)) != 0) refuse();
    for (std::size_t k = 0; k < 3 - padding; ++k) bytes += static_cast<char>(group >> (16 - 8 * k) & 0xFF);
  }
  return bytes;
}

}  // namespace agentvm
