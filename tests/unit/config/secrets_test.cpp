#include "vmm/secrets.hpp"

#include <gmock/gmock.h>

#include "tests/support/temporary_folder.hpp"
#include "vmm/config.hpp"

namespace agentvm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

Config user(const std::string& text) {
  return resolve_config({.user = ConfigFile{"/u/config.yaml", text}});
}

std::vector<SecretRule> rules_of(const std::string& text) {
  return secret_rules(user("egress:\n  secrets:\n" + text).at("egress.secrets").value);
}

/// What is said about `text`, which stands below egress.secrets from line 3 on.
std::string problem_of(const std::string& text) {
  try {
    rules_of(text);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::usage);
    return error.message();
  }
  return "";
}

TEST(Secrets, AnEntrySaysAllOrLeavesItToUs) {
  EXPECT_THAT(secret_rules(user("").at("egress.secrets").value), ElementsAre());
  const auto rules = rules_of(
      "    API_KEY: {hosts: api.example.org, from: 'env:API_KEY'}\n"
      "    FORGE:\n"
      "      hosts: [forge.example.org, '*.Example.net:8443']\n"
      "      from: 'command:pass show forge | head -1'\n"
      "      header: [PRIVATE-TOKEN, Authorization]\n"
      "      env: FORGE_TOKEN\n"
      "      shape: glpat-{}\n"
      "      requests: ['GET,HEAD *', POST /api/v4/projects/*/issues]\n"
      "      projects: [~/src, /src/demo]\n");
  const SecretRule simple{.name = "API_KEY",
                          .hosts = {"api.example.org"},
                          .from = "env:API_KEY",
                          .headers = {"Authorization"},
                          .variable = "API_KEY",
                          .shape = "{}",
                          .requests = {},
                          .projects = {}};
  const SecretRule whole{.name = "FORGE",
                         .hosts = {"forge.example.org", "*.example.net:8443"},
                         .from = "command:pass show forge | head -1",
                         .headers = {"PRIVATE-TOKEN", "Authorization"},
                         .variable = "FORGE_TOKEN",
                         .shape = "glpat-{}",
                         .requests = {"GET,HEAD *", "POST /api/v4/projects/*/issues"},
                         .projects = {"~/src", "/src/demo"}};
  EXPECT_THAT(rules, ElementsAre(simple, whole));
  EXPECT_EQ(secret_rules(to_json(rules)), rules);
  EXPECT_EQ(secret_source(rules[0]), "env");
  EXPECT_EQ(secret_source(rules[1]), "command");
}

TEST(Secrets, OfAKnownNameOnlyTheSourceIsNeeded) {
  const auto rules = rules_of(
      "    ANTHROPIC_API_KEY: file:~/.keys/anthropic\n"
      "    GITLAB_TOKEN: {from: 'env:GITLAB_TOKEN', hosts: gitlab.example.org}\n");
  ASSERT_EQ(rules.size(), 2u);
  auto whole = *find_known_secret("ANTHROPIC_API_KEY");
  EXPECT_THAT(whole.hosts, ElementsAre("api.anthropic.com"));
  EXPECT_THAT(whole.headers, ElementsAre("x-api-key"));
  whole.from = "file:~/.keys/anthropic";
  EXPECT_EQ(rules[0], whole);
  EXPECT_THAT(rules[1].hosts, ElementsAre("gitlab.example.org"));
  EXPECT_THAT(rules[1].headers, ElementsAre("PRIVATE-TOKEN", "Authorization"));
  EXPECT_EQ(rules[1].shape, "glpat-{}");
  EXPECT_EQ(find_known_secret("MY_KEY"), nullptr);
}

/// What the table says must be what a user could have written.
TEST(Secrets, KnownOnesAreAsIfTheyWereWritten) {
  for (const auto& rule : known_secrets()) {
    std::string hosts, headers;
    for (const auto& host : rule.hosts) hosts += (hosts.empty() ? "" : ", ") + host;
    for (const auto& header : rule.headers) headers += (headers.empty() ? "" : ", ") + header;
    auto written = rules_of("    OTHER: {hosts: [" + hosts + "], header: [" + headers + "], env: " + rule.name +
                            ", shape: '" + rule.shape + "', from: 'env:K'}\n");
    ASSERT_EQ(written.size(), 1u) << rule.name;
    written[0].name = rule.name;
    written[0].from = "";
    EXPECT_EQ(written[0], rule);
  }
}

TEST(Secrets, WhatIsWrongIsNamedWhereItStands) {
  const std::pair<const char*, const char*> cases[] = {
      {"    KEY: {hosts: a.example, from: 'env:K', hidden: 1}",
       "3:44: egress.secrets: 'KEY': unknown field 'hidden'; there are hosts"},
      {"    KEY: {from: 'env:K'}", "3:10: egress.secrets: 'KEY': 'hosts' is missing"},
      {"    KEY: {hosts: a.example}", "3:10: egress.secrets: 'KEY': 'from' is missing: env:VARIABLE"},
      {"    KEY: {hosts: [], from: 'env:K'}", "3:18: egress.secrets: 'KEY': the list is empty"},
      {"    KEY: {hosts: 192.0.2.1, from: 'env:K'}", "3:18: egress.secrets: 'KEY': '192.0.2.1' is an address"},
      {"    KEY: {hosts: ['[2001:db8::1]'], from: 'env:K'}", "'[2001:db8::1]' is an address"},
      {"    KEY: {hosts: ['*.example'], from: 'env:K'}", "a wildcard needs a name of at least two parts"},
      {"    KEY: {hosts: 'a b', from: 'env:K'}", "'a b' is not a host name"},
      {"    2KEY: {hosts: a.example, from: 'env:K'}", "3:5: egress.secrets: '2KEY': '2KEY' is no name of a variable"},
      {"    KEY: 1", "3:10: egress.secrets: 'KEY': expected a mapping with hosts"},
      {"    OPENAI_API_KEY: 1", "3:21: egress.secrets: 'OPENAI_API_KEY': 'from' is env:VARIABLE, file:PATH"},
      {"    OPENAI_API_KEY: [a]", "3:21: egress.secrets: 'OPENAI_API_KEY': expected a mapping with hosts"},
      {"    OPENAI_API_KEY: {hosts: a.example}", "'from' is missing"},
      {"    KEY: {hosts: a.example, from: 'env:A B'}", "behind 'env:' stands the name of a variable"},
      {"    KEY: {hosts: a.example, from: 'file:key'}", "behind 'file:' stands an absolute path"},
      {"    KEY: {hosts: a.example, from: 'command:'}", "what stands behind 'command:' is empty"},
      {"    KEY: {hosts: a.example, from: \"command:a\\nb\"}", "has control characters"},
      {"    KEY: {hosts: a.example, from: 'env:K', header: 'a b'}", "'a b' is not the name of a header"},
      {"    KEY: {hosts: a.example, from: 'env:K', env: 'A=B'}", "'A=B' is no name of a variable"},
      {"    KEY: {hosts: a.example, from: 'env:K', shape: sk}", "'sk' is not {} once"},
      {"    KEY: {hosts: a.example, from: 'env:K', shape: '{}{}'}", "'{}{}' is not {} once"},
      {"    KEY: {hosts: a.example, from: 'env:K', shape: '$(x){}'}", "is not {} once among letters"},
      {"    KEY: {hosts: a.example, from: 'env:K', projects: src}", "'src' is no absolute path"},
      {"    KEY: {hosts: a.example, from: 'env:K', requests: '/v1/*'}", "'/v1/*' is not methods and a path"},
      {"    KEY: {hosts: a.example, from: 'env:K', requests: 'get /v1/*'}", "'get /v1/*' is not methods and a path"},
      {"    KEY: {hosts: a.example, from: 'env:K', requests: 'GET, HEAD /'}",
       "'GET, HEAD /' is not methods and a path"},
      {"    KEY: {hosts: a.example, from: 'env:K', requests: 'GET /a?b=1'}", "'GET /a?b=1' is not methods and a path"},
      {"    KEY: {hosts: a.example, from: 'env:K', requests: 'GET v1'}", "'GET v1' is not methods and a path"},
      {"    A: {hosts: a.example, from: 'env:K'}\n    B: {hosts: b.example, from: 'env:K', env: A}",
       "4:5: egress.secrets: 'B': the variable A is another's already"},
  };
  for (const auto& [text, said] : cases) EXPECT_THAT(problem_of(text), HasSubstr(said)) << text;
  EXPECT_THAT(test::error_of([] { user("egress: {secrets: [KEY]}"); })->message(),
              HasSubstr("/u/config.yaml:1:19: egress.secrets: expected a mapping of NAME to hosts"));
}

/// Whoever takes `from` for the place of the secret itself must not find it in a message, and from there in a log.
TEST(Secrets, WhatMayBeTheSecretIsNotQuoted) {
  for (const char* from : {"hunter2hunter2", "sk-hunter2", "env:hunter2 !", "file:hunter2", "ENV:hunter2"}) {
    const auto said = problem_of(std::string("    KEY: {hosts: a.example, from: '") + from + "'}");
    EXPECT_THAT(said, Not(HasSubstr("hunter2"))) << from;
    EXPECT_THAT(said, HasSubstr("3:35")) << from;
    EXPECT_THAT(problem_of(std::string("    OPENAI_API_KEY: '") + from + "'"), Not(HasSubstr("hunter2"))) << from;
  }
}

TEST(Secrets, AProjectsFileCannotNameAny) {
  for (const char* text :
       {"egress: {secrets: {KEY: {hosts: evil.example, from: 'file:/etc/shadow'}}}", "egress.secrets: {}"}) {
    try {
      resolve_config({.project = ConfigFile{"/p/agentvm.yaml", text}});
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::decision_needed);
      EXPECT_THAT(error.message(), HasSubstr("/p/agentvm.yaml:1:"));
      EXPECT_THAT(error.message(), HasSubstr("'egress.secrets'"));
    }
  }
}

TEST(Secrets, AreShownByNameAndHosts) {
  const auto config = user("egress: {secrets: {KEY: {hosts: [a.example, b.example], from: 'file:/k'}}}");
  EXPECT_EQ(config_value_text(*find_config_key("egress.secrets"), config.at("egress.secrets").value),
            "KEY for a.example, b.example");
  Json shown;
  const auto json = config_json(config);
  for (const auto& row : json["keys"])
    if (row["name"] == "egress.secrets") shown = row["text"];
  EXPECT_EQ(shown, "KEY for a.example, b.example");
}

}  // namespace
}  // namespace agentvm
