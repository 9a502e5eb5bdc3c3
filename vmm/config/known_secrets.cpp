#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "vmm/secrets.hpp"

namespace agentvm {
namespace {

/// As the programs that read these variables send them, by what their vendors publish about their APIs.
SecretRule known(const char* name, std::vector<std::string> hosts, std::vector<std::string> headers,
                 const char* shape) {
  return {.name = name,
          .hosts = std::move(hosts),
          .from = {},
          .headers = std::move(headers),
          .variable = name,
          .shape = shape,
          .requests = {},
          .projects = {}};
}

}  // namespace

const std::vector<SecretRule>& known_secrets() {
  static const std::vector<SecretRule> table{
      known("ANTHROPIC_API_KEY", {"api.anthropic.com"}, {"x-api-key"}, "sk-ant-api03-{}"),
      known("ANTHROPIC_AUTH_TOKEN", {"api.anthropic.com"}, {"Authorization"}, "{}"),
      known("CLAUDE_CODE_OAUTH_TOKEN", {"api.anthropic.com"}, {"Authorization"}, "sk-ant-oat01-{}"),
      known("DEEPSEEK_API_KEY", {"api.deepseek.com"}, {"Authorization"}, "sk-{}"),
      known("GEMINI_API_KEY", {"generativelanguage.googleapis.com"}, {"x-goog-api-key"}, "AIza{}"),
      known("GH_TOKEN", {"github.com", "api.github.com"}, {"Authorization"}, "ghp_{}"),
      known("GITHUB_TOKEN", {"github.com", "api.github.com"}, {"Authorization"}, "ghp_{}"),
      known("GITLAB_TOKEN", {"gitlab.com"}, {"PRIVATE-TOKEN", "Authorization"}, "glpat-{}"),
      known("GROQ_API_KEY", {"api.groq.com"}, {"Authorization"}, "gsk_{}"),
      known("MISTRAL_API_KEY", {"api.mistral.ai"}, {"Authorization"}, "{}"),
      known("NPM_TOKEN", {"registry.npmjs.org"}, {"Authorization"}, "npm_{}"),
      known("OPENAI_API_KEY", {"api.openai.com"}, {"Authorization"}, "sk-{}"),
      known("OPENROUTER_API_KEY", {"openrouter.ai"}, {"Authorization"}, "sk-or-v1-{}"),
      known("XAI_API_KEY", {"api.x.ai"}, {"Authorization"}, "xai-{}"),
  };
  return table;
}

const SecretRule* find_known_secret(const std::string& name) {
  const auto& table = known_secrets();
  const auto found =
      std::find_if(table.begin(), table.end(), [&](const SecretRule& rule) { return rule.name == name; });
  return found == table.end() ? nullptr : &*found;
}

std::string known_secrets_markdown() {
  std::string text =
      "# Secrets whose hosts are known\n\n"
      "Generated from the table in `vmm/config/known_secrets.cpp`; a test fails when this file differs.\n\n"
      "For these names `egress.secrets` needs only where the value is: `ANTHROPIC_API_KEY: env:ANTHROPIC_API_KEY`. "
      "[How](../how-to/secrets.md). What an entry\nsays itself counts instead.\n\n"
      "| name | hosts | header | placeholder |\n|-|-|-|-|\n";
  for (const auto& rule : known_secrets())
    text += fmt::format("| `{}` | {} | {} | `{}` |\n", rule.name, fmt::join(rule.hosts, ", "),
                        fmt::join(rule.headers, ", "), rule.shape);
  return text;
}

}  // namespace agentvm
