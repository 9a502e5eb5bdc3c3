#include "guest/image/listing.hpp"

#include <charconv>

#include <fmt/format.h>

#include "vmm/base/error.hpp"

namespace agentvm {
namespace {

[[noreturn]] void damaged() {
  throw Error(ErrorCode::operation_failed, "the listing from the disk is damaged");
}

/// Up to the next zero byte, which goes with it.
std::string_view take_field(std::string_view& bytes) {
  const auto end = bytes.find('\0');
  if (end == bytes.npos) damaged();
  const auto field = bytes.substr(0, end);
  bytes.remove_prefix(end + 1);
  return field;
}

template <typename Number>
Number take_number(std::string_view& text, bool last, int base = 10) {
  const auto end = last ? text.size() : text.find(' ');
  if (end == text.npos) damaged();
  Number number{};
  const auto read = std::from_chars(text.data(), text.data() + end, number, base);
  if (end == 0 || read.ec != std::errc() || read.ptr != text.data() + end) damaged();
  text.remove_prefix(last ? end : end + 1);
  return number;
}

}  // namespace

std::string format_listed(const ListedEntry& entry) {
  auto text = fmt::format("{:o} {} {} {} {}", entry.mode, entry.uid, entry.gid, entry.size, entry.modified);
  for (const auto& field : {entry.name, entry.target}) (text += '\0') += field;
  return text += '\0';
}

std::vector<ListedEntry> parse_listing(std::string_view bytes) {
  std::vector<ListedEntry> entries;
  while (!bytes.empty()) {
    auto numbers = take_field(bytes);
    ListedEntry entry;
    entry.mode = take_number<unsigned>(numbers, false, 8);
    entry.uid = take_number<std::uint64_t>(numbers, false);
    entry.gid = take_number<std::uint64_t>(numbers, false);
    entry.size = take_number<std::uint64_t>(numbers, false);
    entry.modified = take_number<std::int64_t>(numbers, true);
    entry.name = take_field(bytes);
    entry.target = take_field(bytes);
    if (entry.name.empty() || entry.name == "." || entry.name == ".." || entry.name.find('/') != entry.name.npos)
      damaged();
    entries.push_back(std::move(entry));
  }
  return entries;
}

}  // namespace agentvm
