#include "proxy/egress/caps.hpp"

#include <algorithm>
#include <array>

#include "vmm/base/sizes.hpp"

namespace agentvm::egress {
namespace {

constexpr std::uint64_t bytes_per_token = 4;  // of English text, by what OpenAI and Anthropic tell their users

std::string_view word(std::string_view& rest, char end) {
  const auto at = std::min(rest.find(end), rest.size());
  const auto found = rest.substr(0, at);
  rest.remove_prefix(std::min(at + 1, rest.size()));
  return found;
}

std::uint64_t amount(std::string_view text, Cap::Unit unit) {
  if (unit == Cap::Unit::bytes) return ByteSize::parse(text).bytes();
  std::uint64_t scale = 1;
  if (text.ends_with('k')) scale = 1000;
  if (text.ends_with('M')) scale = 1'000'000;
  if (scale > 1) text.remove_suffix(1);
  return std::stoull(std::string(text)) * scale;
}

/// Fields of which the largest counts, because streams repeat them; those of a group are added up. The groups are what
/// the three APIs document as usage; a total includes its parts.
struct Field {
  std::string_view name;
  enum class Role { part, total } role = Role::part;
};
constexpr std::array<Field, TokenMeter::field_count> fields{{{"input_tokens"},
                                                             {"cache_creation_input_tokens"},
                                                             {"cache_read_input_tokens"},
                                                             {"output_tokens"},
                                                             {"prompt_tokens"},
                                                             {"completion_tokens"},
                                                             {"promptTokenCount"},
                                                             {"candidatesTokenCount"},
                                                             {"total_tokens", Field::Role::total},
                                                             {"totalTokenCount", Field::Role::total}}};
constexpr std::size_t output_field = 3;
constexpr std::size_t longest_field = 80;  // with its quotes, colon, spaces and number
constexpr std::size_t digit_limit = 15;

}  // namespace

Cap Cap::parse(std::string_view text) {
  Cap cap;
  cap.text = text;
  cap.host = HostRule::parse(word(text, ' '), "egress.caps");
  const auto count = word(text, ' ');
  const auto unit = word(text, '/');
  cap.unit = unit == "requests" ? Unit::requests : unit == "bytes" ? Unit::bytes : Unit::tokens;
  cap.limit = amount(count, cap.unit);
  cap.seconds = text == "minute" ? 60 : text == "hour" ? 3600 : 24 * 3600;
  return cap;
}

bool Cap::covers(const HostPort& target) const {
  return host.port.value_or(target.port) == target.port && host.matches(target.host);
}

bool Cap::needs_tls(const HostPort& target) const {
  return unit != Unit::bytes && host.port.value_or(https_port) == target.port && host.matches(target.host);
}

CapLedger::CapLedger(std::vector<Cap> caps) {
  for (auto& cap : caps) counts_.push_back({std::move(cap), {}});
}

std::int64_t CapLedger::part(const Cap& cap, std::int64_t now) {
  return now / (cap.seconds / parts);
}

std::uint64_t CapLedger::sum(const Count& count, std::int64_t now) {
  std::uint64_t total = 0;
  for (const auto& [number, amount] : count.used)
    if (number + parts > part(count.cap, now)) total += amount;
  return total;
}

std::int64_t CapLedger::until_room(const Count& count, std::int64_t now) {
  auto left = sum(count, now);
  if (left < count.cap.limit) return 0;
  const auto length = count.cap.seconds / parts;
  for (const auto& [number, amount] : count.used) {
    if (number + parts <= part(count.cap, now)) continue;
    left -= amount;
    if (left < count.cap.limit) return std::max<std::int64_t>((number + parts) * length - now, 1);
  }
  return count.cap.seconds;  // a limit of 0
}

void CapLedger::add(const HostPort& target, const Taken& taken, std::int64_t now) {
  const std::lock_guard lock(mutex_);
  for (auto& count : counts_) {
    if (!count.cap.covers(target)) continue;
    const auto amount = count.cap.unit == Cap::Unit::requests ? taken.requests
                        : count.cap.unit == Cap::Unit::bytes  ? taken.bytes
                                                              : taken.tokens;
    if (amount == 0) continue;
    // A clock that was set back must not open a part anew.
    const auto current = std::max(part(count.cap, now), count.used.empty() ? std::int64_t{0} : count.used.back().first);
    while (!count.used.empty() && count.used.front().first + parts <= current) count.used.pop_front();
    if (count.used.empty() || count.used.back().first != current) count.used.emplace_back(current, 0);
    count.used.back().second += amount;
  }
}

std::optional<CapReached> CapLedger::reached(const HostPort& target, std::int64_t now,
                                             std::optional<Cap::Unit> unit) const {
  const std::lock_guard lock(mutex_);
  std::optional<CapReached> worst;
  for (const auto& count : counts_) {
    if (!count.cap.covers(target) || (unit && count.cap.unit != *unit)) continue;
    const auto seconds = until_room(count, now);
    if (seconds > 0 && (!worst || seconds > worst->seconds)) worst = CapReached{count.cap.text, seconds};
  }
  return worst;
}

bool CapLedger::needs_tls(const HostPort& target) const {
  const std::lock_guard lock(mutex_);
  return std::any_of(counts_.begin(), counts_.end(), [&](const Count& count) { return count.cap.needs_tls(target); });
}

bool CapLedger::counts(const HostPort& target, Cap::Unit unit) const {
  const std::lock_guard lock(mutex_);
  return std::any_of(counts_.begin(), counts_.end(),
                     [&](const Count& count) { return count.cap.unit == unit && count.cap.covers(target); });
}

std::vector<CapLedger::State> CapLedger::states(std::int64_t now) const {
  const std::lock_guard lock(mutex_);
  std::vector<State> states;
  for (const auto& count : counts_)
    states.push_back({count.cap.text, sum(count, now), count.cap.limit, until_room(count, now)});
  return states;
}

void TokenMeter::number(std::size_t field, std::uint64_t value) {
  fields_[field] = std::max(fields_[field], value);
  reported_ = true;
}

void TokenMeter::read(std::string_view piece) {
  bytes_ += piece.size();
  const auto text = tail_ + std::string(piece);  // what was cut is read again, which the largest does not mind
  for (std::size_t at = text.find('"'); at != text.npos; at = text.find('"', at + 1)) {
    for (std::size_t i = 0; i < fields.size(); ++i) {
      const auto name = fields[i].name;
      if (text.compare(at + 1, name.size(), name) != 0 || text.compare(at + 1 + name.size(), 1, "\"") != 0) continue;
      auto value = at + name.size() + 2;
      while (value < text.size() && (text[value] == ':' || text[value] == ' ')) ++value;
      const auto end = std::min(text.find_first_not_of("0123456789", value), text.size());
      if (end > value && end - value <= digit_limit && end < text.size())
        number(i, std::stoull(text.substr(value, end - value)));
    }
  }
  for (std::size_t at = text.find("\ndata:"); at != text.npos; at = text.find("\ndata:", at + 1))
    if (at + 6 > tail_.size()) ++events_;
  tail_ = text.substr(text.size() - std::min(text.size(), longest_field));
}

std::uint64_t TokenMeter::tokens() const {
  std::uint64_t parts = 0, total = 0;
  for (std::size_t i = 0; i < fields.size(); ++i) {
    if (fields[i].role == Field::Role::total)
      total = std::max(total, fields_[i]);
    else
      parts += fields_[i];
  }
  const auto reported = std::max(parts, total);
  if (reported_ && ended_) return reported;
  const auto estimate = events_ > 0 ? events_ : bytes_ / bytes_per_token;
  // Of a stream that broke off the input was reported at its beginning, and little of the output.
  return reported_ ? reported - std::min(reported, fields_[output_field]) + std::max(fields_[output_field], estimate)
                   : estimate;
}

}  // namespace agentvm::egress
