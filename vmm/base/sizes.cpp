#include "vmm/base/sizes.hpp"

#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include "vmm/base/error.hpp"
#include "vmm/base/text.hpp"

namespace agentvm {
namespace {
constexpr std::string_view units = "KMGTP";
}

ByteSize ByteSize::parse(std::string_view text) {
  const auto fail = [&] {
    throw Error(ErrorCode::usage, fmt::format("'{}' is not a size: write 512M, 8G or 1.5G",
                                              clean_guest_text(text, Newlines::escape, 80)));
  };
  double value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  if (problem != std::errc() || !(value >= 0)) fail();
  std::string_view rest(end, static_cast<std::size_t>(text.data() + text.size() - end));
  if (rest.size() == 3 && rest.ends_with("iB"))
    rest.remove_suffix(2);
  else if (rest.size() == 2 && rest.ends_with("B"))
    rest.remove_suffix(1);
  double factor = 1;
  if (rest.size() == 1) {
    const char upper = rest[0] >= 'a' ? static_cast<char>(rest[0] - 'a' + 'A') : rest[0];
    const auto index = units.find(upper);
    if (index == std::string_view::npos) fail();
    factor = std::exp2(10.0 * static_cast<double>(index + 1));
  } else if (!rest.empty()) {
    fail();
  }
  constexpr double largest = 9.0e18;  // below 2^63, so that every size fits libvirt's and ours
  if (value * factor > largest) fail();
  return ByteSize(static_cast<std::uint64_t>(value * factor));
}

std::string ByteSize::str() const {
  for (int i = static_cast<int>(units.size()) - 1; i >= 0; --i) {
    const std::uint64_t unit = 1ULL << (10 * (i + 1));
    if (bytes_ >= unit && bytes_ % unit == 0)
      return fmt::format("{}{}", bytes_ / unit, units[static_cast<std::size_t>(i)]);
    if (bytes_ >= unit && i >= 1)
      return fmt::format("{:.1f}{}", static_cast<double>(bytes_) / static_cast<double>(unit),
                         units[static_cast<std::size_t>(i)]);
  }
  return std::to_string(bytes_);
}

}  // namespace agentvm
