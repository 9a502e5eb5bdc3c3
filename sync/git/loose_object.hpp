#pragma once
// One object in the form that git stores it in a file of its own, and packs made of such. Pure; takes any bytes.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace agentvm::git {

struct LooseObject {
  enum class Type { commit = 1, tree = 2, blob = 3, tag = 4 };  ///< the numbers are those in a pack
  Type type = Type::blob;
  std::string content;
};

/// Unpacks the file of a loose object. Throws `operation_failed` when it is none, or its content is larger than
/// `limit_bytes`.
LooseObject read_loose(std::string_view file, std::uint64_t limit_bytes);

/// A pack (version 2) of whole objects.
std::string pack_of(const std::vector<LooseObject>& objects);

}  // namespace agentvm::git
