#include "proxy/egress/placeholders.hpp"

#include <gmock/gmock.h>

#include "vmm/base/base64.hpp"

namespace agentvm::egress {
namespace {

using testing::HasSubstr;

const std::string key_holder = "sk-0123456789abcdef", forge_holder = "glpat-fedcba9876543210";

std::vector<SecretUse> uses() {
  const auto host = [](const char* text) { return HostRule::parse(text, "egress.secrets"); };
  return {{"API_KEY", key_holder, {host("api.test"), host("*.example.org:8443")}, {"Authorization", "x-api-key"}, {}},
          {"FORGE", forge_holder, {host("forge.test")}, {"Authorization"}, {}}};
}

std::string stray(const HostPort& target, const http::Fields& fields, const std::string& path = "/",
                  Passage passage = Passage::secure) {
  return stray_placeholder(uses(), target, passage, path, fields);
}

TEST(Placeholders, AreMeantForTheirHostsAndPorts) {
  const auto names = [](const HostPort& target) {
    const auto all = uses();
    std::string text;
    for (const auto* use : secrets_for(all, target)) text += use->name;
    return text;
  };
  EXPECT_EQ(names({"api.test", 443}), "API_KEY");
  EXPECT_EQ(names({"forge.test", 443}), "FORGE");
  EXPECT_EQ(names({"a.b.example.org", 8443}), "API_KEY");
  for (const HostPort& other : {HostPort{"api.test", 80}, HostPort{"xapi.test", 443}, HostPort{"a.api.test", 443},
                                HostPort{"example.org", 8443}, HostPort{"a.example.org", 443}})
    EXPECT_EQ(names(other), "") << other.str();
}

TEST(Placeholders, AreReplacedInTheirHeadersWhereverTheyStand) {
  const auto all = uses();
  http::Fields fields{{"authorization", "Bearer " + key_holder},
                      {"X-API-Key", key_holder + "," + key_holder},
                      {"User-Agent", key_holder}};
  EXPECT_TRUE(is_wanted(all[0], fields));
  EXPECT_FALSE(is_wanted(all[1], fields));
  put_in(all[0], "value", fields);
  EXPECT_EQ(fields[0].value, "Bearer value");
  EXPECT_EQ(fields[1].value, "value,value");
  EXPECT_EQ(fields[2].value, key_holder);
  EXPECT_FALSE(is_wanted(all[0], {{"User-Agent", key_holder}}));
  EXPECT_FALSE(is_wanted(all[0], {{"Authorization", "Bearer sk-0123456789"}}));
}

/// As git sends a token.
TEST(Placeholders, AreReplacedWithinBasicCredentials) {
  const auto all = uses();
  http::Fields fields{{"Authorization", "basic " + base64_encode("x-access-token:" + forge_holder)}};
  EXPECT_TRUE(is_wanted(all[1], fields));
  EXPECT_EQ(stray({"forge.test", 443}, fields), "");
  EXPECT_THAT(stray({"evil.test", 443}, fields), HasSubstr("FORGE is sent to evil.test"));
  put_in(all[1], "value", fields);
  EXPECT_EQ(fields[0].value, "Basic " + base64_encode("x-access-token:value"));
  fields = {{"Authorization", "Basic no base64 " + forge_holder}};
  put_in(all[1], "value", fields);
  EXPECT_EQ(fields[0].value, "Basic no base64 value");
}

TEST(Placeholders, NoneGoesWhereItIsNotMeant) {
  const http::Fields good{{"x-api-key", key_holder}}, forge{{"Authorization", forge_holder}};
  EXPECT_EQ(stray({"api.test", 443}, good), "");
  EXPECT_EQ(stray({"evil.test", 443}, {{"Authorization", "none"}}), "");
  EXPECT_EQ(stray({"evil.test", 443}, good),
            "the placeholder of API_KEY is sent to evil.test, which is none of its hosts");
  EXPECT_THAT(stray({"api.test", 8443}, good), HasSubstr("is sent to api.test:8443, which is none of its hosts"));
  EXPECT_THAT(stray({"api.test", 443}, forge), HasSubstr("FORGE is sent to api.test"));
  EXPECT_THAT(stray({"forge.test", 443}, good), HasSubstr("API_KEY is sent to forge.test"));
  EXPECT_THAT(stray({"api.test", 443}, {{"User-Agent", key_holder}}), HasSubstr("another header"));
  EXPECT_THAT(stray({"api.test", 443}, {}, "/?key=" + key_holder), HasSubstr("stands in the path"));
  EXPECT_EQ(stray({"api.test", 443}, good, "/", Passage::plain), "the placeholder of API_KEY is sent without TLS");
  for (const auto& said : {stray({"evil.test", 443}, good), stray({"api.test", 443}, {}, "/" + key_holder)})
    EXPECT_THAT(said, testing::Not(HasSubstr(key_holder)));
}

}  // namespace
}  // namespace agentvm::egress
