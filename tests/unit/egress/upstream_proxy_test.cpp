#include "proxy/egress/upstream_proxy.hpp"

#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.hpp"
#include "vmm/base/error.hpp"

namespace agentvm::egress {
namespace {

using test::error_of;
using testing::HasSubstr;
using testing::Not;

std::optional<UpstreamProxy> from(const std::map<std::string, std::string>& variables,
                                  std::string_view setting = "environment") {
  return upstream_proxy(setting, [&](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? std::string() : found->second;
  });
}

TEST(UpstreamProxy, UrlsAreReadAsOtherProgramsReadThem) {
  EXPECT_EQ(UpstreamProxy::parse("http://proxy.example.org:3128").address, (HostPort{"proxy.example.org", 3128}));
  EXPECT_EQ(UpstreamProxy::parse("http://proxy.example.org/").address, (HostPort{"proxy.example.org", 80}));
  EXPECT_EQ(UpstreamProxy::parse("http://[2001:db8::1]:8080").address, (HostPort{"2001:db8::1", 8080}));
  EXPECT_EQ(UpstreamProxy::parse("http://10.1.2.3:8080").str(), "http://10.1.2.3:8080");
  // printf 'me:p@ss' | base64
  EXPECT_EQ(UpstreamProxy::parse("http://me:p%40ss@proxy.example.org:3128").authorization, "Basic bWU6cEBzcw==");
}

TEST(UpstreamProxy, BadUrlsAreRefusedWithoutTheirPassword) {
  for (const auto* url : {"https://me:secret@proxy:1", "socks5://me:secret@proxy:1", "http://me:secret@",
                          "http://me:secret@*.example.org:1", "http://me:secret@proxy:99999",
                          "http://me:secret%0d%0aX@proxy:1", "http://me:secret@proxy:1/path"}) {
    const auto error = error_of([&] { UpstreamProxy::parse(url); });
    ASSERT_TRUE(error) << url;
    EXPECT_EQ(error->code(), ErrorCode::usage) << url;
    EXPECT_THAT(std::string(error->what()) + error->hint(), Not(HasSubstr("secret"))) << url;
  }
}

TEST(UpstreamProxy, TheSettingChoosesWhereItComesFrom) {
  EXPECT_FALSE(from({{"https_proxy", "http://a.test:1"}}, "direct"));
  EXPECT_EQ(from({{"https_proxy", "http://a.test:1"}, {"no_proxy", "*"}}, "http://b.test:2")->address.host, "b.test");
  EXPECT_TRUE(from({{"no_proxy", "*"}}, "http://b.test:2")->serves({"any.test", 443}));
  EXPECT_FALSE(from({}));
  EXPECT_EQ(from({{"HTTP_PROXY", "http://d.test:4"}, {"https_proxy", "a.test:1"}})->address, (HostPort{"a.test", 1}));
  EXPECT_EQ(from({{"HTTPS_PROXY", "http://b.test:2"}, {"http_proxy", "http://c.test:3"}})->address.host, "b.test");
}

TEST(UpstreamProxy, NoProxyNamesWhatIsReachedDirectly) {
  const auto proxy =
      from({{"https_proxy", "http://p.test:1"},
            {"NO_PROXY", "Internal.test, .below.test,*.star.test,ported.test:8443,10.0.0.1,2001:db8::1,,"}});
  for (const auto& [host, port, served] : {std::tuple{"internal.test", 443, false},
                                           {"a.b.internal.test", 443, false},
                                           {"notinternal.test", 443, true},
                                           {"x.below.test", 443, false},
                                           {"x.star.test", 443, false},
                                           {"ported.test", 8443, false},
                                           {"ported.test", 443, true},
                                           {"10.0.0.1", 80, false},
                                           {"2001:db8::1", 80, false},
                                           {"example.org", 443, true},
                                           {"", 443, true}})
    EXPECT_EQ(proxy->serves({host, static_cast<std::uint16_t>(port)}), served) << host << ":" << port;
  EXPECT_FALSE(from({{"https_proxy", "http://p.test:1"}, {"no_proxy", "*"}})->serves({"example.org", 443}));
}

TEST(UpstreamProxy, ATunnelIsAskedForByName) {
  auto proxy = UpstreamProxy::parse("http://proxy.test:3128");
  EXPECT_EQ(tunnel_request(proxy, {"example.org", 443}),
            "CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n");
  proxy.authorization = "Basic eA==";
  EXPECT_THAT(tunnel_request(proxy, {"2001:db8::1", 443}),
              testing::AllOf(HasSubstr("CONNECT [2001:db8::1]:443 "),
                             HasSubstr("\r\nProxy-Authorization: Basic eA==\r\n\r\n")));
}

TEST(UpstreamProxy, OnlyA2xxOpensIt) {
  const std::string open = "HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n";
  for (std::size_t i = 0; i < open.size(); ++i) EXPECT_TRUE(parse_tunnel_answer(open.substr(0, i)).incomplete) << i;
  const auto answer = parse_tunnel_answer(open + "SSH-2.0-x");
  EXPECT_TRUE(answer.open);
  EXPECT_EQ(answer.size, open.size());
  EXPECT_TRUE(parse_tunnel_answer("HTTP/1.0 200\r\n\r\n").open);
  EXPECT_THAT(parse_tunnel_answer("HTTP/1.1 407 Proxy \x1b[31mAuthentication\r\nX: y\r\n\r\n").problem,
              testing::AllOf(HasSubstr("407"), Not(HasSubstr("\x1b"))));
  for (const std::string& bad :
       {std::string("SSH-2.0-x\r\n\r\n"), std::string("HTTP/2 200 x\r\n\r\n"), std::string("\r\n\r\n"),
        std::string("HTTP/1.1 2000\r\n\r\n"), "HTTP/1.1 200 x\r\n" + std::string(17 * 1024, 'x')}) {
    EXPECT_FALSE(parse_tunnel_answer(bad).open) << bad.substr(0, 20);
    EXPECT_FALSE(parse_tunnel_answer(bad).incomplete) << bad.substr(0, 20);
    EXPECT_NE(parse_tunnel_answer(bad).problem, "") << bad.substr(0, 20);
  }
}

}  // namespace
}  // namespace agentvm::egress
