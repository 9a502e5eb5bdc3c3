#pragma once
// One value of one key: from text or YAML to checked JSON.

#include <string_view>

#include "vmm/config.hpp"

namespace agentvm {

/// Throws `usage` with the reason alone ("'x' is not a whole number: ..."); the caller knows where it stands. Foreign
/// text is quoted cleaned.
/// Letters, digits and '_', no digit first; 256 bytes at most.
bool is_variable_name(std::string_view text);
Json parse_config_text(const ConfigKey& key, std::string_view text);
/// As above, for a value in a file; the error has no location either.
Json parse_config_node(const ConfigKey& key, const YamlNode& node);
/// Foreign text as it may stand in a message: cleaned, at most 80 bytes.
std::string quote_foreign(std::string_view text);

}  // namespace agentvm
