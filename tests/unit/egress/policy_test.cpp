#include "proxy/egress/policy.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/base/error.hpp"

namespace agentvm::egress {
namespace {

using testing::HasSubstr;

EgressPolicy policy_of(std::vector<std::string> texts) {
  std::vector<HostRule> entries;
  for (const auto& text : texts) entries.push_back(HostRule::parse(text, "egress.allow"));
  return EgressPolicy(entries);
}

TEST(Policy, NamesAreExactButForCaseAndTheFinalDot) {
  const EgressPolicy policy = policy_of({"Example.COM", "git.test:9418"});
  for (const auto* host : {"example.com", "EXAMPLE.com", "example.com."})
    EXPECT_TRUE(policy.decide(host, 443).allowed) << host;
  for (const auto* host :
       {"www.example.com", "example.com.evil.test", "xexample.com", "example.co", "example..com", ".example.com",
        "example.com..", "", ".", "exa mple.com", "example.com\n", "*.example.com", "example.com%00.evil.test"})
    EXPECT_FALSE(policy.decide(host, 443).allowed) << host;
  EXPECT_FALSE(policy.decide(std::string_view("example.com\0.evil.test", 22), 443).allowed);
}

TEST(Policy, WhatNoRuleIsAboutIsAskedForWhereThatIsWanted) {
  const std::vector<HostRule> allow{HostRule::parse("a.test", "egress.allow"),
                                    HostRule::parse("*.b.test", "egress.allow")};
  const std::vector<HostRule> deny{HostRule::parse("bad.b.test", "egress.deny"),
                                   HostRule::parse("*.evil.test", "egress.deny"),
                                   HostRule::parse("a.test:22", "egress.deny")};
  const EgressPolicy policy(allow, deny, Unlisted::asked);
  EXPECT_TRUE(policy.decide("a.test", 443).allowed);
  EXPECT_FALSE(policy.decide("a.test", 443).ask);
  for (const auto* host : {"other.test", "Other.TEST.", "b.test", "evil.test"}) {
    EXPECT_FALSE(policy.decide(host, 443).allowed) << host;
    EXPECT_TRUE(policy.decide(host, 443).ask) << host;
  }
  EXPECT_TRUE(policy.decide("a.test", 8443).ask);
  // What denies is no question, nor is what is no name, or would be an option of the command that allows it.
  for (const auto* host : {"bad.b.test", "x.evil.test", "127.0.0.1", "[::1]", "8.8.8.8", "2130706433", "a b.test", "",
                           "x;y.test", "--remove", "-h.test", "*.test", "\x1b[2J.test"})
    EXPECT_FALSE(policy.decide(host, 443).ask) << host;
  EXPECT_FALSE(policy.decide("a.test", 22).ask);
  EXPECT_FALSE(EgressPolicy(allow, deny).decide("other.test", 443).ask);
  EXPECT_FALSE(EgressPolicy().decide("other.test", 443).ask);
}

TEST(Policy, WithoutAPortTheUsualTwo) {
  const EgressPolicy policy = policy_of({"a.test", "b.test:8443"});
  EXPECT_TRUE(policy.decide("a.test", 80).allowed);
  EXPECT_TRUE(policy.decide("a.test", 443).allowed);
  EXPECT_FALSE(policy.decide("a.test", 22).allowed);
  EXPECT_THAT(policy.decide("a.test", 22).reason, HasSubstr("a.test:22 is not allowed: the host is, on another port"));
  EXPECT_TRUE(policy.decide("b.test", 8443).allowed);
  EXPECT_FALSE(policy.decide("b.test", 443).allowed);
  EXPECT_EQ(policy.decide("b.test", 8443).rule, "b.test:8443 (egress.allow)");
}

TEST(Policy, AddressesInEveryNotationAreRefused) {
  const EgressPolicy policy = policy_of({"example.com"});
  for (const auto* host : {"127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001",
                           "127.0.0.1.", "[::1]", "::1", "[::ffff:127.0.0.1]", "[fe80::1%25eth0]", "169.254.169.254",
                           "10.0.2.2", "1.2.3", "0", "256.256.256.256", "a.1", "x.0x7f"})
    EXPECT_FALSE(policy.decide(host, 80).allowed) << host;
}

TEST(Policy, WildcardsAreEveryNameBelowAndNotTheNameItself) {
  const EgressPolicy policy = policy_of({"*.Example.ORG", "*.corp.test:8443"});
  for (const auto* host : {"a.example.org", "A.B.example.org.", "x-1.example.org"})
    EXPECT_TRUE(policy.decide(host, 443).allowed) << host;
  for (const auto* host : {"example.org", ".example.org", "aexample.org", "evil-example.org", "example.org.evil.test",
                           "*.example.org", "a.example.org.evil.test"})
    EXPECT_FALSE(policy.decide(host, 443).allowed) << host;
  EXPECT_TRUE(policy.decide("a.corp.test", 8443).allowed);
  EXPECT_EQ(policy.decide("a.corp.test", 8443).rule, "*.corp.test:8443 (egress.allow)");
  EXPECT_EQ(policy.decide("a.corp.test", 443).cause, Cause::other_port);
}

TEST(Policy, DenyingWinsWhateverTheOrderAndHowExact) {
  const EgressPolicy policy(
      {HostRule::parse("*.example.org", "preset x"), HostRule::parse("git.example.org:22", "egress.allow"),
       HostRule::parse("mirror.test:80", "package sources", true)},
      {HostRule::parse("git.example.org", "agentvm egress deny"), HostRule::parse("*.mirror.test", "egress.deny"),
       HostRule::parse("a.example.org:80", "egress.deny"), HostRule::parse("mirror.test", "egress.deny")});
  EXPECT_TRUE(policy.decide("b.example.org", 443).allowed);
  for (const std::uint16_t port : {22, 80, 443}) {
    const auto verdict = policy.decide("Git.example.org.", port);
    EXPECT_FALSE(verdict.allowed);
    EXPECT_EQ(verdict.cause, Cause::denied_by_rule);
    EXPECT_EQ(verdict.rule, "git.example.org (agentvm egress deny)");
  }
  EXPECT_FALSE(policy.decide("a.example.org", 80).allowed);
  EXPECT_TRUE(policy.decide("a.example.org", 443).allowed);  // that port alone
  EXPECT_FALSE(policy.decide("mirror.test", 80).allowed);    // a grant is no exception
}

TEST(Policy, AGrantCountsWhereAnotherRuleAllowsTheSame) {
  const EgressPolicy policy(
      {HostRule::parse("deb.test", "preset x"), HostRule::parse("deb.test:80", "package sources", true)});
  EXPECT_TRUE(policy.decide("deb.test", 80).grant);
  EXPECT_FALSE(policy.decide("deb.test", 443).grant);
}

TEST(Policy, RulesAreWrittenAsTheyAreRead) {
  for (const std::string text :
       {"a.test", "a.test:8443", "*.a.test", "*.a.test:22", "192.0.2.1:80", "[2001:db8::1]:443", "[2001:db8::1]"})
    EXPECT_EQ(HostRule::parse(text, "x").str(), text);
}

TEST(Policy, AnAddressThatIsListedIsThatAddressAloneAndNoGrant) {
  const EgressPolicy policy = policy_of({"10.1.2.3:8080", "[2001:db8::1]:443"});
  EXPECT_TRUE(policy.decide("10.1.2.3", 8080).allowed);
  EXPECT_FALSE(policy.decide("10.1.2.3", 8080).grant);
  EXPECT_TRUE(EgressPolicy({HostRule::parse("10.1.2.3:8080", "egress.grants", true)}).decide("10.1.2.3", 8080).grant);
  EXPECT_TRUE(policy.decide("2001:db8::1", 443).allowed);
  EXPECT_TRUE(policy.decide("[2001:DB8:0::1]", 443).allowed);  // the same address
  EXPECT_FALSE(
      policy.decide("10.1.515", 8080).allowed);  // the same address to inet_aton, but no notation that we accept
  EXPECT_FALSE(policy.decide("10.1.2.4", 8080).allowed);
}

TEST(Policy, TheEmptyOneDeniesEverything) {
  EXPECT_FALSE(EgressPolicy().decide("example.com", 443).allowed);
}

TEST(Policy, EntriesThatDoNotParseAreNamed) {
  for (const std::string text :
       {"", "*", "*.com", "*.", "*.*.example.com", "a*.example.com", "*example.com", "*.0.0.1", "example.com:0",
        "example.com:65536", "example.com:http", "exa mple", "http://example.com", "127.1", "[::1", "a:b:c:d", ":80"})
    try {
      HostRule::parse(text, "egress.allow");
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::usage);
      EXPECT_THAT(error.message(), HasSubstr("'" + text + "' (egress.allow)"));
    }
}

TEST(Address, SpecialOnesInEveryWrapping) {
  for (const std::string text : {"0.0.0.0",
                                 "10.0.0.1",
                                 "100.64.0.1",
                                 "127.0.0.1",
                                 "127.255.255.255",
                                 "169.254.169.254",
                                 "172.16.0.1",
                                 "172.31.255.255",
                                 "192.168.1.1",
                                 "192.0.2.1",
                                 "198.18.0.1",
                                 "203.0.113.80",
                                 "224.0.0.1",
                                 "255.255.255.255",
                                 "::",
                                 "::1",
                                 "fe80::1",
                                 "fc00::1",
                                 "fd12::1",
                                 "ff02::1",
                                 "::ffff:127.0.0.1",
                                 "::ffff:10.0.0.1",
                                 "64:ff9b::7f00:1",
                                 "64:ff9b::a9fe:a9fe",
                                 "2002:7f00:1::",
                                 "2002:a00:1::1",
                                 "2001:db8::1",
                                 "2001::1",
                                 "3fff::1",
                                 "::127.0.0.1",
                                 "fec0::1",
                                 "64:ff9b:1::1"}) {
    const auto address = IpAddress::parse(text);
    ASSERT_TRUE(address) << text;
    EXPECT_TRUE(is_special(*address)) << text;
  }
  for (const std::string text : {"1.1.1.1", "100.128.0.1", "172.32.0.1", "172.15.255.255", "192.169.0.1", "11.0.0.0",
                                 "126.255.255.255", "128.0.0.1", "223.255.255.255", "2606:4700::1111", "2a00::1",
                                 "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1"}) {
    const auto address = IpAddress::parse(text);
    ASSERT_TRUE(address) << text;
    EXPECT_FALSE(is_special(*address)) << text;
  }
}

TEST(Address, NumbersAreToldFromNamesInEveryNotation) {
  for (const auto* text :
       {"127.0.0.1", "127.1", "2130706433", "0x7f000001", "0X7F.1", "0177.0.0.1", "017700000001", "127.0.0.1.", "[::1]",
        "::1", "fe80::1%eth0", "0", "0x", "256.256.256.256", "a.1", "x.0x7f", "1.2.3.4.5", "example.com.99"})
    EXPECT_TRUE(looks_numeric(text)) << text;
  for (const auto* text : {"example.com", "1.example.com", "127.0.0.1.nip.example", "0x7f.example", "a1", "x.1a", ""})
    EXPECT_FALSE(looks_numeric(text)) << text;
  for (const auto* text : {"127.1", "0x7f.1", "2130706433", "0177.0.0.1", "fe80::1%eth0", "[::1", "1.2.3.4.5"})
    EXPECT_FALSE(normal_host(text)) << text;
  EXPECT_EQ(normal_host("127.0.0.1"), "127.0.0.1");
  EXPECT_EQ(normal_host("[::0:1]"), "::1");
}

TEST(Address, OnlyCanonicalNotationParses) {
  for (const auto* text : {"127.1", "010.0.0.1", "1.2.3.4 ", "0x1.2.3.4", "[::1]", "fe80::1%eth0", "", "example.com"})
    EXPECT_FALSE(IpAddress::parse(text)) << text;
}

TEST(Policy, OnlyAGrantReachesSpecialAddressesAndOurOwn) {
  const auto address = [](std::string_view text) { return *IpAddress::parse(text); };
  const std::vector<IpAddress> answers = {address("127.0.0.1"), address("1.1.1.1"), address("9.9.9.9"),
                                          address("::ffff:9.9.9.9")};
  const std::vector<IpAddress> own = {address("9.9.9.9")};
  EXPECT_THAT(EgressPolicy::reachable(answers, false, own), testing::ElementsAre(address("1.1.1.1")));
  EXPECT_EQ(EgressPolicy::reachable(answers, true, own).size(), 4u);
}

}  // namespace
}  // namespace agentvm::egress
