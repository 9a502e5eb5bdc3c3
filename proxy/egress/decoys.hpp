#pragma once
// Credentials that nobody should use, found in what a guest sends. Pure.

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/egress/policy.hpp"

namespace agentvm::egress {

struct Decoy {
  std::string name;                 ///< the kind: "aws"
  std::vector<std::string> values;  ///< what is looked for; each at least `DecoySearch::least_bytes`
  std::vector<HostRule> hosts;      ///< where it would be used, without a port at 443: TLS to them is ended here

  bool is_for(const HostPort& target) const;
};

/// All spellings of the values of some decoys: as they are, and in base64 wherever they begin within it. Immutable.
class DecoySearch {
 public:
  static constexpr std::size_t least_bytes = 16;

  /// Throws `operation_failed` for a value that is too short to be told from other text.
  explicit DecoySearch(const std::vector<Decoy>& decoys);

  /// The name of the first decoy in `text`; empty: there is none.
  std::string_view find(std::string_view text) const;
  /// Of the longest spelling.
  std::size_t longest() const { return longest_; }

 private:
  struct Spelling {
    std::string text, name;
  };
  void add(std::string text, const std::string& name);
  std::vector<Spelling> spellings_;
  std::size_t longest_ = 0;
  // Wu and Manber's search ("A fast algorithm for multi-pattern searching", 1994) with blocks of two bytes: how far
  // the window may move when it ends in a block, whose two bytes are the index.
  std::array<std::uint8_t, 65536> shifts_;
};

/// Of one direction of a connection, whatever pieces it comes in. Without a search it finds nothing and costs nothing.
class DecoyScanner {
 public:
  DecoyScanner() = default;
  explicit DecoyScanner(std::shared_ptr<const DecoySearch> search) : search_(std::move(search)) {}

  /// The name of a decoy that ends in `piece`, which follows the last one; empty: none.
  std::string_view scan(std::string_view piece);

 private:
  std::shared_ptr<const DecoySearch> search_;
  std::string tail_;  // of what came before: as much as a spelling that goes on may have there
};

}  // namespace agentvm::egress
