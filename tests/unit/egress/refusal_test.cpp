#include "proxy/egress/refusal.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace agentvm::egress {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

std::string text(const HostPort& target, Cause cause) {
  return refusal_text("box", target, {.reason = "it is so", .cause = cause});
}

TEST(Refusal, SaysWhyAndHowToAskForIt) {
  EXPECT_EQ(text({"a.test", 443}, Cause::not_listed),
            "agentvm: sandbox box may not connect to a.test:443: it is so.\n"
            "If you need it, ask the user to run on the host: agentvm egress allow box a.test\n");
  EXPECT_THAT(text({"a.test", 8443}, Cause::other_port), EndsWith("agentvm egress allow box a.test:8443\n"));
  EXPECT_THAT(text({"a.test", 5432}, Cause::special_address), HasSubstr("'a.test:5432' to egress.grants"));
}

TEST(Refusal, NamesNoCommandWhereNoneHelps) {
  for (const auto cause : {Cause::denied_by_rule, Cause::bad_name, Cause::other_name})
    EXPECT_THAT(text({"a.test", 443}, cause), Not(HasSubstr("egress allow"))) << to_string(cause);
  EXPECT_THAT(text({"127.0.0.1", 80}, Cause::not_listed), Not(HasSubstr("egress allow")));
}

TEST(Refusal, AQuestionNamesTheCommandThatAnswersIt) {
  EXPECT_EQ(question_text("box", {"a.test", 443}), "waits for you: agentvm egress allow box a.test");
  EXPECT_EQ(question_text("box", {"a.test", 22}), "waits for you: agentvm egress allow box a.test:22");
}

TEST(Refusal, RulesAreWrittenTheShortWay) {
  EXPECT_EQ(rule_text({"a.test", 80}), "a.test");
  EXPECT_EQ(rule_text({"a.test", 22}), "a.test:22");
  EXPECT_EQ(rule_text({"2001:db8::1", 443}), "[2001:db8::1]");
  EXPECT_EQ(rule_text({"2001:db8::1", 22}), "[2001:db8::1]:22");
}

}  // namespace
}  // namespace agentvm::egress
