#pragma once
// Secrets of the user's that stay on the host (`egress.secrets`): what each is called, which hosts get it, and where
// its value comes from. Never the value itself. Values: copy freely.

#include <string>
#include <vector>

#include "vmm/base/json.hpp"

namespace agentvm {

/// One entry, checked.
struct SecretRule {
  std::string name;                   ///< a variable's
  std::vector<std::string> hosts;     ///< DNS names or *.domain, in lower case, each with :port or without (443)
  std::string from;                   ///< "env:VARIABLE", "file:PATH" (absolute, or from ~/) or "command:WORDS"
  std::vector<std::string> headers;   ///< where its placeholder is replaced
  std::string variable;               ///< what holds its placeholder in the guest
  std::string shape;                  ///< of the placeholder: holds {} once
  std::vector<std::string> requests;  ///< "METHODS PATH" that it may be used for, as in "GET,HEAD /v1/*"; empty: all
  std::vector<std::string> projects;  ///< folders, absolute or from ~/; those in or below them alone; empty: all
  bool operator==(const SecretRule&) const = default;
};

/// Those whose hosts, headers and shape need not be said, by name; where each comes from is left empty.
const std::vector<SecretRule>& known_secrets();
/// Null: there is none of this name.
const SecretRule* find_known_secret(const std::string& name);
/// Their page of the reference.
std::string known_secrets_markdown();

/// "env", "file" or "command".
std::string secret_source(const SecretRule& rule);

Json to_json(const SecretRule& rule);
/// The rules of a value of the key `egress.secrets`, or of a record. Null: none. Throws `operation_failed` for anything
/// else than `to_json` writes.
std::vector<SecretRule> secret_rules(const Json& value);
Json to_json(const std::vector<SecretRule>& rules);

}  // namespace agentvm
