#include "proxy/egress/socks.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace agentvm::egress {
namespace {

using testing::HasSubstr;

std::string request(const std::string& name, std::uint16_t port, char command = 1, char kind = 3) {
  std::string text{5, command, 0, kind};
  text += static_cast<char>(name.size());
  text += name;
  return text + static_cast<char>(port >> 8) + static_cast<char>(port & 0xff);
}

TEST(Socks, TheGreetingMustOfferNoAuthentication) {
  EXPECT_TRUE(parse_socks_greeting(std::string("\5\1\0", 3)).no_authentication);
  EXPECT_EQ(parse_socks_greeting(std::string("\5\2\2\0rest", 8)).size, 4u);
  EXPECT_TRUE(parse_socks_greeting(std::string("\5\2\2\0", 4)).no_authentication);
  EXPECT_FALSE(parse_socks_greeting("\5\1\2").no_authentication);
  EXPECT_EQ(parse_socks_greeting("\5\1\2").size, 3u);
  for (const auto* incomplete : {"", "\5", "\5\3\1\2"}) {
    EXPECT_EQ(parse_socks_greeting(incomplete).size, 0u);
    EXPECT_FALSE(parse_socks_greeting(incomplete).fault);
  }
  EXPECT_TRUE(parse_socks_greeting("\4\1").fault);
  EXPECT_TRUE(parse_socks_greeting(std::string("\5\0", 2)).fault);
  EXPECT_EQ(socks_method(true), std::string("\5\0", 2));
  EXPECT_EQ(socks_method(false), "\5\xff");
}

TEST(Socks, ARequestNamesAHostAndAPort) {
  const auto text = request("Example.ORG.", 8443);
  const auto result = parse_socks_request(text + "payload");
  ASSERT_TRUE(result.target);
  EXPECT_EQ(result.target->str(), "example.org:8443");
  EXPECT_EQ(result.size, text.size());
  for (std::size_t size = 0; size < text.size(); ++size)
    EXPECT_TRUE(parse_socks_request(text.substr(0, size)).incomplete()) << size;
}

TEST(Socks, EverythingElseIsRefusedWithItsReason) {
  const auto reply = [](const std::string& text) {
    const auto result = parse_socks_request(text);
    EXPECT_FALSE(result.target) << text;
    return result.fault ? result.fault->reply : SocksReply::succeeded;
  };
  EXPECT_EQ(reply(request("a.test", 1, 2)), SocksReply::no_such_command);  // BIND
  EXPECT_EQ(reply(request("a.test", 1, 3)), SocksReply::no_such_command);  // UDP ASSOCIATE
  EXPECT_EQ(reply(std::string("\5\1\0\1\x7f\0\0\1\0\x50", 10)), SocksReply::no_such_address);
  EXPECT_EQ(reply(std::string("\5\1\0\4", 4)), SocksReply::no_such_address);
  EXPECT_EQ(reply(request("a.test", 1, 1, 9)), SocksReply::no_such_address);
  EXPECT_EQ(reply(request("", 80)), SocksReply::failed);
  EXPECT_EQ(reply(request(".", 80)), SocksReply::failed);
  EXPECT_EQ(reply(request("a.test", 0)), SocksReply::failed);
  EXPECT_EQ(reply(request("a b.test", 80)), SocksReply::failed);
  EXPECT_EQ(reply(request(std::string("a\0.test", 7), 80)), SocksReply::failed);
  EXPECT_EQ(reply(request("a\r\n.test", 80)), SocksReply::failed);
  EXPECT_EQ(reply("\4\1"), SocksReply::failed);
  EXPECT_EQ(reply("\5\1\1"), SocksReply::failed);  // reserved
  // As soon as it is certain, not when the rest is there.
  EXPECT_EQ(reply("\5\2"), SocksReply::no_such_command);
  EXPECT_EQ(socks_answer(SocksReply::not_allowed), std::string("\5\2\0\1\0\0\0\0\0\0", 10));
}

}  // namespace
}  // namespace agentvm::egress
