#include "vmm/decoys.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "vmm/base/error.hpp"

namespace agentvm {
namespace {

constexpr std::string_view digits = "0123456789", capitals_and_digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567",
                           letters_and_digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

}  // namespace

// Shapes as their vendors publish them for scanners of secrets.
const std::vector<DecoyKind>& decoy_kinds() {
  static const std::vector<DecoyKind> table{
      {.name = "aws",
       .file = ".aws/credentials",
       .content = "[production]\naws_access_key_id = {0}\naws_secret_access_key = {1}\n",
       .values = {{"AKIA", capitals_and_digits, 16}, {"", letters_and_digits, 40}},
       .hosts = {"*.amazonaws.com"}},
      {.name = "github",
       .file = ".git-credentials",
       .content = "https://release-bot:{0}@github.com\n",
       .values = {{"ghp_", letters_and_digits, 36}},
       .hosts = {"api.github.com", "gist.github.com", "github.com", "uploads.github.com"}},
      {.name = "npm",
       .file = ".npmrc.publish",
       .content = "//registry.npmjs.org/:_authToken={0}\n",
       .values = {{"npm_", letters_and_digits, 36}},
       .hosts = {"registry.npmjs.org"}},
      {.name = "slack",
       .file = ".config/slack/bot.env",
       .content = "SLACK_BOT_TOKEN={0}\n",
       .values = {{"xoxb-", digits, 24}},
       .hosts = {"slack.com", "*.slack.com"}},
      {.name = "stripe",
       .file = ".config/stripe/live.env",
       .content = "STRIPE_SECRET_KEY={0}\n",
       .values = {{"sk_live_", letters_and_digits, 24}},
       .hosts = {"api.stripe.com", "files.stripe.com"}},
  };
  return table;
}

const DecoyKind& find_decoy_kind(std::string_view name) {
  const auto& table = decoy_kinds();
  const auto found = std::find_if(table.begin(), table.end(), [&](const DecoyKind& kind) { return kind.name == name; });
  if (found == table.end())
    throw Error(ErrorCode::operation_failed, fmt::format("there is no decoy of the kind '{}'", name));
  return *found;
}

std::vector<std::string> decoy_values(const DecoyKind& kind, std::string_view seed) {
  std::vector<std::string> values;
  std::size_t used = 0;
  for (const auto& part : kind.values) {
    std::string value(part.prefix);
    for (std::size_t i = 0; i < part.length; ++i)
      value += part.alphabet[static_cast<unsigned char>(seed.at(used++)) % part.alphabet.size()];
    values.push_back(std::move(value));
  }
  return values;
}

std::string decoy_content(const DecoyKind& kind, const std::vector<std::string>& values) {
  std::string text(kind.content);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto mark = fmt::format("{{{}}}", i);
    text.replace(text.find(mark), mark.size(), values[i]);
  }
  return text;
}

std::string decoys_markdown() {
  std::string text =
      "# Decoys\n\n"
      "Generated from the table in `vmm/config/decoys.cpp`; a test fails when this file differs.\n\n"
      "What `decoys` may name, where a guest finds each, and the hosts that it would be used at: TLS to these is ended "
      "on the host,\nso that a decoy is seen in it. [How](../how-to/decoys.md).\n\n"
      "| decoy | file | hosts |\n|-|-|-|\n";
  for (const auto& kind : decoy_kinds())
    text += fmt::format("| `{}` | `~/{}` | {} |\n", kind.name, kind.file, fmt::join(kind.hosts, ", "));
  return text;
}

}  // namespace agentvm
