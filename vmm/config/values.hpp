#pragma once
// One value of one key: from text or YAML to checked JSON.

#include <string_view>

#include "vmm/base/error.hpp"
#include "vmm/config.hpp"

namespace agentvm {

/// Throws `usage` with the reason alone ("'x' is not a whole number: ..."); the caller knows where it stands. Foreign
/// text is quoted cleaned.
/// Letters, digits and '_', no digit first; 256 bytes at most.
bool is_variable_name(std::string_view text);
Json parse_config_text(const ConfigKey& key, std::string_view text);
/// As above, for a value in a file; the error has no location either.
Json parse_config_node(const ConfigKey& key, const YamlNode& node);
/// A host of a list: host, host:port, *.domain; lower case comes out.
std::string parse_config_host(std::string_view text);
/// The mapping of `egress.secrets`, as `to_json` of its rules. Throws as above; `PartError` for a part of it.
Json parse_secrets(const YamlNode& node);
/// What is wrong stands elsewhere than where the value begins.
class PartError : public Error {
 public:
  PartError(YamlMark mark, std::string message) : Error(ErrorCode::usage, std::move(message)), mark_(mark) {}
  YamlMark mark() const { return mark_; }

 private:
  YamlMark mark_;
};
/// Foreign text as it may stand in a message: cleaned, at most 80 bytes.
std::string quote_foreign(std::string_view text);

}  // namespace agentvm
