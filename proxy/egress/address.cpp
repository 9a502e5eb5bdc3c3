#include "proxy/egress/address.hpp"

#include <algorithm>
#include <span>

#include <arpa/inet.h>

namespace agentvm::egress {
namespace {

struct Prefix {
  std::array<std::uint8_t, 16> bytes;
  unsigned bits;
};

bool within(std::span<const std::uint8_t> address, const Prefix& prefix) {
  for (unsigned bit = 0; bit < prefix.bits; ++bit) {
    const auto mask = static_cast<std::uint8_t>(0x80 >> (bit % 8));
    if ((address[bit / 8] & mask) != (prefix.bytes[bit / 8] & mask)) return false;
  }
  return true;
}

// IANA's IPv4 special-purpose registry, and multicast.
constexpr Prefix special_v4[] = {
    {{0}, 8},
    {{10}, 8},
    {{100, 64}, 10},
    {{127}, 8},
    {{169, 254}, 16},
    {{172, 16}, 12},
    {{192, 0, 0}, 24},
    {{192, 0, 2}, 24},
    {{192, 88, 99}, 24},
    {{192, 168}, 16},
    {{198, 18}, 15},
    {{198, 51, 100}, 24},
    {{203, 0, 113}, 24},
    {{224}, 4},
    {{240}, 4},
};
// Inside 2000::/3, which is all the public space there is.
constexpr Prefix special_v6[] = {
    {{0x20, 0x01, 0x00}, 23},        // Teredo, ORCHID, benchmarking
    {{0x20, 0x01, 0x0d, 0xb8}, 32},  // documentation
    {{0x3f, 0xff}, 20},              // documentation
};
constexpr Prefix global_v6{{0x20}, 3};
constexpr Prefix mapped_v4{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 96};
constexpr Prefix nat64{{0x00, 0x64, 0xff, 0x9b}, 96};
constexpr Prefix six_to_four{{0x20, 0x02}, 16};

IpAddress v4_at(const IpAddress& address, std::size_t offset) {
  IpAddress result;
  std::copy_n(address.bytes.begin() + static_cast<std::ptrdiff_t>(offset), 4, result.bytes.begin());
  return result;
}

}  // namespace

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
  const std::string copy(text);
  IpAddress address;
  if (::inet_pton(AF_INET, copy.c_str(), address.bytes.data()) == 1 && address.str() == copy) return address;
  address = {.v6 = true};
  if (copy.find('%') == std::string::npos && ::inet_pton(AF_INET6, copy.c_str(), address.bytes.data()) == 1)
    return address;
  return std::nullopt;
}

std::string IpAddress::str() const {
  char text[INET6_ADDRSTRLEN];
  return ::inet_ntop(v6 ? AF_INET6 : AF_INET, bytes.data(), text, sizeof text);
}

IpAddress unwrapped(const IpAddress& address) {
  if (!address.v6) return address;
  if (within(address.bytes, mapped_v4) || within(address.bytes, nat64)) return v4_at(address, 12);
  if (within(address.bytes, six_to_four)) return v4_at(address, 2);
  return address;
}

bool is_special(const IpAddress& address) {
  const IpAddress real = unwrapped(address);
  const auto holds = [&](const Prefix& prefix) { return within(real.bytes, prefix); };
  if (!real.v6) return std::any_of(std::begin(special_v4), std::end(special_v4), holds);
  return !holds(global_v6) || std::any_of(std::begin(special_v6), std::end(special_v6), holds);
}

bool looks_numeric(std::string_view host) {
  if (host.ends_with('.')) host.remove_suffix(1);
  if (host.empty()) return false;
  if (host.front() == '[' || host.find(':') != std::string_view::npos) return true;
  // As browsers decide it: a last label that is a number makes the whole an address, however odd the rest.
  std::string_view last = host.substr(host.rfind('.') + 1);
  if (last.starts_with("0x") || last.starts_with("0X")) {
    last.remove_prefix(2);
    return std::all_of(last.begin(), last.end(), [](unsigned char c) { return std::isxdigit(c) != 0; });
  }
  return !last.empty() && std::all_of(last.begin(), last.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace agentvm::egress
