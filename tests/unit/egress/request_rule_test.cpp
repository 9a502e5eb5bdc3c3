#include "proxy/egress/request_rule.hpp"

#include <gmock/gmock.h>

#include "proxy/egress/placeholders.hpp"

namespace agentvm::egress {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string beyond(const std::vector<const char*>& rules, const std::string& method, const std::string& target,
                   const http::Fields& fields = {}) {
  std::vector<RequestRule> parsed;
  for (const auto* rule : rules) parsed.push_back(RequestRule::parse(rule));
  return beyond_rules(parsed, {.method = method, .target = target, .host = "api.test", .fields = fields});
}

TEST(RequestRule, IsReadAndWrittenAlike) {
  for (const char* text : {"GET /", "GET,HEAD /repos/me/*", "* *", "* /v1/messages"})
    EXPECT_EQ(RequestRule::parse(text).str(), text);
}

TEST(RequestRule, PermitsMethodsAndPaths) {
  struct Case {
    const char *rule, *method, *target;
    bool permitted;
  };
  for (const auto& [rule, method, target, permitted] :
       std::initializer_list<Case>{{"GET /v1/models", "GET", "/v1/models", true},
                                   {"GET /v1/models", "GET", "/v1/models?limit=5", true},
                                   {"GET /v1/models", "GET", "/v1/models/", false},
                                   {"GET /v1/models", "POST", "/v1/models", false},
                                   {"GET /v1/models", "get", "/v1/models", false},
                                   {"GET,HEAD /v1/*", "HEAD", "/v1/a/b", true},
                                   {"GET,HEAD /v1/*", "GET", "/v1", false},
                                   {"GET,HEAD /v1/*", "GETHEAD", "/v1/a", false},
                                   {"* /v1/*", "DELETE", "/v1/", true},
                                   {"GET *", "GET", "/", true},
                                   {"POST */git-upload-pack", "POST", "/me/repo.git/git-upload-pack", true},
                                   {"POST */git-upload-pack", "POST", "/me/repo.git/git-receive-pack", false},
                                   {"POST */git-upload-pack", "POST", "/me/git-receive-pack?/git-upload-pack", false},
                                   {"GET /a*b*c", "GET", "/axxbyybzzc", true},
                                   {"GET /a*b*c", "GET", "/axxbyybzz", false},
                                   {"GET /projects/a%2Fb/*", "GET", "/projects/a%2Fb/issues", true},
                                   {"GET *", "OPTIONS", "*", false}})
    EXPECT_EQ(beyond({rule}, method, target).empty(), permitted) << rule << " | " << method << " " << target;
  EXPECT_EQ(beyond({}, "DELETE", "/../x"), "") << "no rules, no limits";
  EXPECT_EQ(beyond({"GET /a", "POST /b"}, "POST", "/b"), "");
  EXPECT_THAT(beyond({"GET /a", "POST /b"}, "POST", "/a\x01"), StartsWith("it is POST /a"));
}

/// What the server resolves is not what was compared.
TEST(RequestRule, PathsInDisguiseArePermittedByNone) {
  for (const char* path : {"/me/../other", "/me/..", "/me/./x", "/me/%2e%2e/other", "/me/%2E./other", "/me/..%2fother",
                           "/me/..%5Cother", "/me/..\\other", "/me/..;a=b/other", "/me/%252e%252e/other",
                           "/me/%25252e./other", "/me/x%2f..%2f..%2fother", "/me/x%00"})
    EXPECT_THAT(beyond({"* *"}, "GET", path), HasSubstr("can be read in several ways")) << path;
  for (const char* path : {"/me/a..b", "/me/...", "/me/.git", "/me/x?p=/../y", "/me/a%2fb", "/me/a;v=1"})
    EXPECT_EQ(beyond({"* *"}, "GET", path), "") << path;
}

TEST(RequestRule, NoFieldOverridesTheMethod) {
  for (const char* field : {"X-HTTP-Method-Override", "x-http-method", "X-METHOD-OVERRIDE"})
    EXPECT_THAT(beyond({"POST *"}, "POST", "/", {{field, "DELETE"}}), HasSubstr("it has a field")) << field;
}

TEST(RequestRule, CountsForWhoeverUsesTheSecretAlone) {
  const SecretUse limited{.name = "KEY",
                          .placeholder = "holder",
                          .hosts = {},
                          .headers = {"x-api-key"},
                          .requests = {RequestRule::parse("GET /a"), RequestRule::parse("GET /b")}};
  const http::Request without{.method = "POST", .target = "/c", .host = "api.test", .fields = {}};
  auto with = without;
  with.fields = {{"X-Api-Key", "holder"}};
  EXPECT_EQ(forbidden_use({&limited}, without), "");
  EXPECT_EQ(forbidden_use({&limited}, with),
            "KEY may be used for GET /a, GET /b alone; of this request, it is POST /c");
}

}  // namespace
}  // namespace agentvm::egress
