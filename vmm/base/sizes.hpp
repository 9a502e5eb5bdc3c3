#pragma once
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

namespace agentvm {

/// A number of bytes. Written as `512M`, `8G`, `1.5G`, `8GiB` (powers of 1024; a bare number is bytes).
class ByteSize {
 public:
  constexpr ByteSize() = default;
  explicit constexpr ByteSize(std::uint64_t bytes) : bytes_(bytes) {}
  /// Throws `usage` naming the text.
  static ByteSize parse(std::string_view text);
  static constexpr ByteSize mebibytes(std::uint64_t count) { return ByteSize(count << 20); }
  static constexpr ByteSize gibibytes(std::uint64_t count) { return ByteSize(count << 30); }
  constexpr std::uint64_t bytes() const { return bytes_; }
  /// "8G", "512M", "1.5G", "12345".
  std::string str() const;
  auto operator<=>(const ByteSize&) const = default;

 private:
  std::uint64_t bytes_ = 0;
};

}  // namespace agentvm
