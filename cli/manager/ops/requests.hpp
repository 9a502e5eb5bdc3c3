#pragma once
// What clients send about their surroundings, read once into types.

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "vmm/base/json.hpp"

namespace agentvm::manager {

/// Parameters common to `start`, `plan` and `config.show`: where the client stands, what it was given, what it
/// inherits.
struct ClientSetting {
  std::filesystem::path cwd;                       ///< absolute
  std::filesystem::path path;                      ///< the folder asked for; absolute
  std::map<std::string, std::string> flags;        ///< configuration key -> text
  std::map<std::string, std::string> environment;  ///< variable -> text
  /// A repository that is still to be cloned, to `path`: nothing is read from there.
  struct Uncloned {
    std::optional<std::string> head;  ///< the branch that its HEAD names
  };
  std::optional<Uncloned> uncloned = {};
};
/// Throws `usage` when cwd is missing or relative, or a value is no text.
ClientSetting read_client_setting(const Json& params);

/// Text, or empty when the key is absent or null.
std::string text_or_empty(const Json& params, const std::string& key);
std::optional<std::string> optional_text(const Json& params, const std::string& key);

}  // namespace agentvm::manager
