#pragma once
// Archives as GNU tar writes them, byte by byte, so that a test can write what tar would not.

#include <string>

#include <fmt/format.h>

namespace agentvm::test {

inline constexpr std::size_t tar_block_bytes = 512;

struct TarHeader {
  std::string name;
  char kind = '0';
  std::uint64_t size = 0;
  std::string target = "";
  unsigned mode = 0644;
};

/// `header` with its sum right; the content is the caller's.
inline std::string tar_header(const TarHeader& header) {
  std::string block(tar_block_bytes, '\0');
  const auto put = [&block](std::size_t at, const std::string& text) { block.replace(at, text.size(), text); };
  put(0, header.name.substr(0, 100));
  put(100, fmt::format("{:07o}", header.mode));
  put(108, "0001750");
  put(116, "0001750");
  put(124, fmt::format("{:011o}", header.size));
  put(136, "00000000000");
  put(148, "        ");
  block[156] = header.kind;
  put(157, header.target.substr(0, 100));
  put(257, "ustar  ");
  unsigned sum = 0;
  for (const unsigned char c : block) sum += c;
  put(148, fmt::format("{:06o}", sum) + std::string(1, '\0') + " ");
  return block;
}

inline std::string tar_padded(std::string content) {
  content.resize((content.size() + tar_block_bytes - 1) / tar_block_bytes * tar_block_bytes, '\0');
  return content;
}

inline std::string tar_file(const std::string& name, const std::string& content, unsigned mode = 0644) {
  return tar_header({.name = name, .size = content.size(), .mode = mode}) + tar_padded(content);
}

/// A name (`kind` L) or target (K) of more than 100 bytes, for the entry that comes next.
inline std::string tar_long(char kind, const std::string& text) {
  return tar_header({.name = "././@LongLink", .kind = kind, .size = text.size() + 1}) +
         tar_padded(text + std::string(1, '\0'));
}

inline std::string tar_end() {
  return std::string(2 * tar_block_bytes, '\0');
}

}  // namespace agentvm::test
