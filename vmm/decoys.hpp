#pragma once
// Credentials that nobody should use (`decoys`): what they look like, where a guest finds them, and whose they would
// be. Made up for each sandbox; there is nothing that they open. Pure.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace agentvm {

struct DecoyKind {
  struct Part {
    std::string_view prefix, alphabet;
    std::size_t length = 0;  ///< of what follows the prefix
  };
  std::string_view name;                ///< as in `decoys`
  std::string_view file;                ///< from the agent's home; no program reads it by itself
  std::string_view content;             ///< of the file, with {0}, {1} for the values
  std::vector<Part> values;             ///< of letters, digits, '-' and '_': no encoding of a URL changes them
  std::vector<std::string_view> hosts;  ///< where it would be used: DNS names or *.domain, at port 443
};

/// By name.
const std::vector<DecoyKind>& decoy_kinds();
/// Throws `operation_failed` for a name that is none.
const DecoyKind& find_decoy_kind(std::string_view name);

inline constexpr std::size_t decoy_seed_bytes = 64;  ///< more than any kind has characters
/// The values made of `seed`, random bytes that are kept.
std::vector<std::string> decoy_values(const DecoyKind& kind, std::string_view seed);
std::string decoy_content(const DecoyKind& kind, const std::vector<std::string>& values);

/// Their page of the reference.
std::string decoys_markdown();

}  // namespace agentvm
