#pragma once
// YAML as a plain tree that remembers where each value stands. The only user of yaml-cpp is yaml.cpp.

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace agentvm {

struct YamlMark {
  int line = 0;    ///< from 1
  int column = 0;  ///< from 1
};

struct YamlNode {
  enum class Kind { null, scalar, sequence, mapping };
  Kind kind = Kind::null;
  YamlMark mark;
  std::string scalar;
  bool quoted = false;  ///< "8" in quotes is text, never a number
  std::vector<YamlNode> items;
  struct Entry;
  std::vector<Entry> entries;  ///< in file order; keys are unique (checked)

  const YamlNode* find(std::string_view key) const;
};
struct YamlNode::Entry {
  std::string key;
  YamlMark key_mark;
  YamlNode value;
};

/// One document. Throws `usage` with "file:line:column: reason" on syntax errors, duplicate keys, aliases (none are
/// allowed: they make exponential trees), nesting deeper than 32 or more than 1 MiB. Empty text is a null node.
YamlNode parse_yaml(std::string_view text, const std::string& file);
/// "file:line:column".
std::string at(const std::string& file, YamlMark mark);

}  // namespace agentvm
