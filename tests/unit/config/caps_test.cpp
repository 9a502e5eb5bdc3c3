#include <gmock/gmock.h>

#include "vmm/base/error.hpp"
#include "vmm/config.hpp"

namespace agentvm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Config with_caps(const std::string& user, const std::string& project = "") {
  ConfigInput input;
  input.user = ConfigFile{"/u/config.yaml", "egress: {caps: " + user + "}\n"};
  if (!project.empty()) input.project = ConfigFile{"/p/agentvm.yaml", "egress: {caps: " + project + "}\n"};
  return resolve_config(input);
}

TEST(ConfigCaps, AreWrittenAsTheyAreMeantAndAddUp) {
  EXPECT_THAT(
      with_caps("['API.Example.org:8443  3   requests/hour']", "['*.example.net 2G bytes/day']").list("egress.caps"),
      testing::UnorderedElementsAre("api.example.org:8443 3 requests/hour", "*.example.net 2G bytes/day"));
  EXPECT_THAT(with_caps("[192.0.2.1 7K bytes/minute]").list("egress.caps"), ElementsAre("192.0.2.1 7K bytes/minute"));
  EXPECT_THAT(with_caps("[a.example 500k tokens/day]").list("egress.caps"), ElementsAre("a.example 500k tokens/day"));
}

TEST(ConfigCaps, WhatIsNoneIsRefusedWithAnExample) {
  for (const char* text : {"a.example", "a.example 3", "a.example 3 requests", "a.example 3 requests/week",
                           "a.example 3 things/hour", "a.example 0 requests/hour", "a.example 03 requests/hour",
                           "a.example -3 requests/hour", "a.example 3K requests/hour", "a.example 3k bytes/hour",
                           "a.example 1000000T bytes/day", "a.example 1000000000000 tokens/day", "a b 3 requests/hour",
                           "192.0.2.1 3 requests/hour", "'[2001:db8::1] 3 tokens/hour'", "'*.org 3 requests/hour'"}) {
    try {
      with_caps("[" + std::string(text) + "]");
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::usage) << text;
      EXPECT_THAT(error.message(), HasSubstr("/u/config.yaml:1:")) << text;
    }
  }
}

}  // namespace
}  // namespace agentvm
