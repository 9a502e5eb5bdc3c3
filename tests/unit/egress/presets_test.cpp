#include "proxy/egress/presets.hpp"

#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/base/error.hpp"
#include "vmm/config.hpp"

namespace agentvm::egress {
namespace {

TEST(Presets, AreTheChoicesOfTheirKeyAndItsDefault) {
  std::string choices;
  std::vector<std::string> names;
  for (const auto& preset : presets()) {
    choices += (choices.empty() ? "" : "|") + std::string(preset.name);
    names.emplace_back(preset.name);
  }
  EXPECT_EQ(find_config_key("egress.presets")->choices, choices);
  EXPECT_EQ(resolve_config({}).list("egress.presets"), names);
}

TEST(Presets, EveryHostIsExactPublicListedOnceAndHasAReason) {
  std::set<std::string_view> seen;
  for (const auto& preset : presets()) {
    EXPECT_FALSE(preset.summary.empty());
    for (const auto& [host, reason] : preset.hosts) {
      const auto rule = HostRule::parse(host, "preset");
      EXPECT_EQ(rule.str(), host);
      EXPECT_FALSE(rule.subdomains || rule.grant || rule.port) << host;
      EXPECT_FALSE(looks_numeric(host)) << host;
      EXPECT_NE(rule.host.find('.'), std::string::npos) << host;
      EXPECT_FALSE(reason.empty()) << host;
      EXPECT_TRUE(seen.insert(host).second) << host << " is listed twice";
      EXPECT_NE(presets_reference_markdown().find("| `" + std::string(host) + "` | " + std::string(reason) + " |"),
                std::string::npos)
          << host;
    }
  }
}

TEST(Presets, BecomeRulesWithTheirOrigin) {
  const EgressPolicy policy(preset_rules({"forges"}));
  EXPECT_EQ(policy.decide("github.com", 443).rule, "github.com (preset forges)");
  EXPECT_FALSE(policy.decide("gist.github.com", 443).allowed);
  EXPECT_FALSE(policy.decide("registry.npmjs.org", 443).allowed);
  EXPECT_TRUE(preset_rules({}).empty());
  EXPECT_THROW(preset_rules({"everything"}), Error);
}

}  // namespace
}  // namespace agentvm::egress
