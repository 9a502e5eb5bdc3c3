#include "proxy/route/site.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace agentvm::proxy {
namespace {

using Kind = HostName::Kind;
const Site site{"localhost", 8080};

TEST(Site, KnowsTheNamesThatItWrites) {
  EXPECT_EQ(site.parse("localhost:8080"), (HostName{Kind::index, "", 0}));
  EXPECT_EQ(site.parse("box.localhost:8080"), (HostName{Kind::sandbox, "box", 0}));
  EXPECT_EQ(site.parse("3000.box.localhost:8080"), (HostName{Kind::sandbox, "box", 3000}));
  EXPECT_EQ(site.parse("65535.3000.localhost:8080"), (HostName{Kind::sandbox, "3000", 65535}));
  EXPECT_EQ(site.parse("feature.box.localhost:8080"), (HostName{Kind::sandbox, "box", 0, "feature"}));
  EXPECT_EQ(site.parse("3000.feature-x-0a1b2c3d.box.localhost:8080"),
            (HostName{Kind::sandbox, "box", 3000, "feature-x-0a1b2c3d"}));
  EXPECT_EQ(site.parse("3000.box.box.localhost:8080"), (HostName{Kind::sandbox, "box", 3000, "box"}));
  EXPECT_EQ(site.url("box", 3000, "feature"), "http://3000.feature.box.localhost:8080/");
  EXPECT_EQ(site.url("box", 0, "feature"), "http://feature.box.localhost:8080/");
  EXPECT_EQ(site.url("box", 3000), "http://3000.box.localhost:8080/");
  EXPECT_EQ(site.url("box"), "http://box.localhost:8080/");
  EXPECT_EQ(site.url(), "http://localhost:8080/");
  const Site other{"sandbox.local", 80};
  EXPECT_EQ(other.parse("box.sandbox.local"), (HostName{Kind::sandbox, "box", 0}));
  EXPECT_EQ(other.parse("box.sandbox.local:80"), (HostName{Kind::sandbox, "box", 0}));
  EXPECT_EQ(other.parse("sandbox.local").kind, Kind::index);
  EXPECT_EQ(other.url("box", 5173), "http://5173.box.sandbox.local/");
}

/// DNS rebinding and its relatives: whatever resolves to us is not thereby ours.
TEST(Site, KnowsNothingElse) {
  for (const char* host : {"",
                           ":8080",
                           "evil.example:8080",
                           "evil.example",
                           "localhost",
                           "box.localhost",
                           "box.localhost:80",
                           "box.localhost:08080",
                           "box.localhost:8081",
                           "box.localhost:",
                           "box.localhost:8080:8080",
                           "box.localhost.:8080",
                           "localhost.:8080",
                           "box..localhost:8080",
                           ".box.localhost:8080",
                           ".localhost:8080",
                           "boxlocalhost:8080",
                           "box.localhost.evil.example:8080",
                           "127.0.0.1:8080",
                           "[::1]:8080",
                           "2130706433:8080",
                           "0x7f.1:8080",
                           "03000.box.localhost:8080",
                           "0.box.localhost:8080",
                           "65536.box.localhost:8080",
                           "99999.box.localhost:8080",
                           "+3000.box.localhost:8080",
                           "-1.box.localhost:8080",
                           "3000.3000.box.localhost:8080",
                           "feature.3000.box.localhost:8080",
                           "feature.feature.box.localhost:8080",
                           "03000.feature.box.localhost:8080",
                           "0.feature.box.localhost:8080",
                           "3000.3000.feature.box.localhost:8080",
                           "3000.feature..box.localhost:8080",
                           "3000..box.localhost:8080",
                           ".feature.box.localhost:8080",
                           "feature-.box.localhost:8080",
                           "-feature.box.localhost:8080",
                           "3000.feature-.box.localhost:8080",
                           "fea_ture.box.localhost:8080",
                           "3000.Feature.box.localhost:8080",
                           "feature.-box.localhost:8080",
                           "-box.localhost:8080",
                           "box-.localhost:8080",
                           "b[ox.localhost:8080",
                           "xn--box.localhost.example:8080",
                           "localhost:8080.evil.example",
                           "box.local:8080"})
    EXPECT_EQ(site.parse(host).kind, Kind::unknown) << host;
  EXPECT_EQ(site.parse(fmt::format("{}.localhost:8080", std::string(41, 'a'))).kind, Kind::unknown);
  EXPECT_EQ(site.parse(fmt::format("{}.localhost:8080", std::string(40, 'a'))).kind, Kind::sandbox);
}

/// A label of digits alone is a port, also where no such port can be.
TEST(Site, NoWorkTreeTakesAPortsName) {
  EXPECT_EQ(site.parse("12345.box.localhost:8080"), (HostName{Kind::sandbox, "box", 12345}));
  EXPECT_EQ(site.parse("2024a.box.localhost:8080"), (HostName{Kind::sandbox, "box", 0, "2024a"}));
  for (const auto* label : {"", "3000", "0", "2024", "99999999", "-a", "a-", "A", "a.b", "a_b", "a b", "\xc3\xa4"})
    EXPECT_FALSE(is_worktree_label(label)) << label;
  for (const auto* label : {"a", "main", "3000a", "0x", "1-0", "feature-x-0a1b2c3d"})
    EXPECT_TRUE(is_worktree_label(label)) << label;
  EXPECT_TRUE(is_worktree_label(std::string(63, 'a')));
  EXPECT_FALSE(is_worktree_label(std::string(64, 'a')));
}

TEST(Site, AGuestsNumberOnTheHostIsTheSandboxsAlone) {
  EXPECT_EQ(site.same_port_url("box", 3000), "http://box.localhost:3000/");
  EXPECT_EQ(site.parse_same_port("box.localhost:3000", 3000), (HostName{Kind::sandbox, "box", 3000}));
  for (const char* host :
       {"", "localhost:3000", "box.localhost", "box.localhost:8080", "box.localhost:3001", "box.localhost:03000",
        "3000.box.localhost:3000", "feature.box.localhost:3000", "3000.feature.box.localhost:3000", "127.0.0.1:3000",
        "[::1]:3000", "box.localhost.:3000", "evil.example:3000", "box.localhost.evil.example:3000", "box:3000"})
    EXPECT_EQ(site.parse_same_port(host, 3000), HostName{}) << host;
}

TEST(Site, HttpsIsASchemeOfItsOwn) {
  const Site secure{"localhost", 8443, Scheme::https}, usual{"localhost", 443, Scheme::https};
  EXPECT_EQ(secure.url("box", 3000, "feature"), "https://3000.feature.box.localhost:8443/");
  EXPECT_EQ(secure.same_port_url("box", 3000), "https://box.localhost:3000/");
  EXPECT_EQ(usual.url("box"), "https://box.localhost/");
  EXPECT_EQ(usual.parse("box.localhost").sandbox, "box");
  EXPECT_EQ(usual.parse("box.localhost:443").sandbox, "box");
  EXPECT_EQ((Site{"localhost", 80, Scheme::https}.parse("box.localhost")), HostName{});
  EXPECT_EQ((Site{"localhost", 443}.parse("box.localhost")), HostName{});
  EXPECT_TRUE(secure.same_sandbox("https://3000.box.localhost:8443", "box"));
  for (const char* origin : {"http://box.localhost:8443", "https://box.localhost", "https://other.localhost:8443",
                             "wss://box.localhost:8443", "box.localhost:8443"})
    EXPECT_FALSE(secure.same_sandbox(origin, "box")) << origin;
}

TEST(Site, AWebsocketComesFromAPageOfTheSameSandbox) {
  EXPECT_TRUE(site.same_sandbox("http://box.localhost:8080", "box"));
  EXPECT_TRUE(site.same_sandbox("http://3000.box.localhost:8080", "box"));
  EXPECT_TRUE(site.same_sandbox("http://feature.box.localhost:8080", "box"));
  EXPECT_TRUE(site.same_sandbox("http://3000.feature.box.localhost:8080", "box"));
  for (const char* origin :
       {"", "null", "http://", "https://box.localhost:8080", "http://box.localhost", "http://box.localhost:8081",
        "http://other.localhost:8080", "http://box.other.localhost:8080", "http://3000.box.other.localhost:8080",
        "http://x.3000.box.localhost:8080", "http://localhost:8080", "http://evil.example",
        "http://box.localhost:8080.evil.example", "http://box.localhost:8080/",
        "http://evil.example#http://box.localhost:8080", "http://user@box.localhost:8080", "HTTP://box.localhost:8080",
        "file://", "http://box.localhost:8080 http://evil.example"})
    EXPECT_FALSE(site.same_sandbox(origin, "box")) << origin;
}

}  // namespace
}  // namespace agentvm::proxy
