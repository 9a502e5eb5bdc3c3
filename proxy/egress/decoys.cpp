#include "proxy/egress/decoys.hpp"

#include <algorithm>

#include "vmm/base/base64.hpp"
#include "vmm/base/error.hpp"

namespace agentvm::egress {
namespace {

// A spelling in base64 loses at most five characters at its ends, and is a third longer besides.
constexpr std::size_t window_bytes = DecoySearch::least_bytes;

std::size_t block(std::string_view text, std::size_t at) {
  return static_cast<std::size_t>(static_cast<unsigned char>(text[at])) << 8 | static_cast<unsigned char>(text[at + 1]);
}

/// What of `value` stays the same in base64 whatever stands around it, when `before` bytes of a group of three come
/// first.
std::string in_base64(const std::string& value, std::size_t before) {
  constexpr std::size_t byte_bits = 8, digit_bits = 6;
  const auto text = base64_encode(std::string(before, '\0') + value);
  const auto first = (before * byte_bits + digit_bits - 1) / digit_bits;
  const auto end = (before + value.size()) * byte_bits / digit_bits;
  return text.substr(first, end - first);
}

}  // namespace

bool Decoy::is_for(const HostPort& target) const {
  return std::any_of(hosts.begin(), hosts.end(), [&](const HostRule& rule) {
    return rule.port.value_or(https_port) == target.port && rule.matches(target.host);
  });
}

DecoySearch::DecoySearch(const std::vector<Decoy>& decoys) {
  for (const auto& decoy : decoys)
    for (const auto& value : decoy.values) {
      if (value.size() < least_bytes)
        throw Error(ErrorCode::operation_failed, "a value of the decoy " + decoy.name + " is too short");
      add(value, decoy.name);
      for (std::size_t before = 0; before < 3; ++before) {
        auto text = in_base64(value, before);
        add(text, decoy.name);
        // RFC 4648's alphabet for URLs.
        std::replace(text.begin(), text.end(), '+', '-');
        std::replace(text.begin(), text.end(), '/', '_');
        add(std::move(text), decoy.name);
      }
    }
  shifts_.fill(window_bytes - 1);
  for (const auto& spelling : spellings_)
    for (std::size_t at = 0; at + 1 < window_bytes; ++at) {
      auto& shift = shifts_[block(spelling.text, at)];
      shift = std::min<std::uint8_t>(shift, static_cast<std::uint8_t>(window_bytes - 2 - at));
    }
}

void DecoySearch::add(std::string text, const std::string& name) {
  const auto same = [&](const Spelling& other) { return other.text == text; };
  if (std::any_of(spellings_.begin(), spellings_.end(), same)) return;
  longest_ = std::max(longest_, text.size());
  spellings_.push_back({std::move(text), name});
}

std::string_view DecoySearch::find(std::string_view text) const {
  for (std::size_t at = 0; at + window_bytes <= text.size();) {
    const auto shift = shifts_[block(text, at + window_bytes - 2)];
    if (shift > 0) {
      at += shift;
      continue;
    }
    for (const auto& spelling : spellings_)
      if (text.substr(at).starts_with(spelling.text)) return spelling.name;
    ++at;
  }
  return {};
}

std::string_view DecoyScanner::scan(std::string_view piece) {
  if (!search_ || piece.empty()) return {};
  const auto kept = search_->longest() - 1;
  if (!tail_.empty()) {
    const auto seam = tail_ + std::string(piece.substr(0, kept));
    if (const auto found = search_->find(seam); !found.empty()) return found;
  }
  const auto found = search_->find(piece);
  if (piece.size() >= kept) {
    tail_.assign(piece.substr(piece.size() - kept));
  } else {
    tail_ += piece;
    tail_.erase(0, tail_.size() - std::min(tail_.size(), kept));
  }
  return found;
}

}  // namespace agentvm::egress
