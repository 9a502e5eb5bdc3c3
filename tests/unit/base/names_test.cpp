#include "vmm/base/names.hpp"

#include <regex>

#include <gmock/gmock.h>
#include <rapidcheck.h>

#include "tests/support/temporary_folder.hpp"
#include "vmm/base/nearest.hpp"

namespace agentvm {
namespace {

using test::error_of;

bool follows_the_rule(const std::string& text) {
  static const std::regex rule("[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?");
  return std::regex_match(text, rule);
}

/// Text that is often almost a name: the interesting border, which random bytes never reach.
rc::Gen<std::string> near_names() {
  return rc::gen::oneOf(rc::gen::arbitrary<std::string>(),
                        rc::gen::container<std::string>(rc::gen::elementOf(std::string("ab09--AZ_./ \x1b\xc3\xa4"))));
}

TEST(SandboxName, ParseAcceptsExactlyTheRule) {
  EXPECT_TRUE(rc::check([] {
    const auto text = *near_names();
    const auto error = error_of([&] { RC_ASSERT(SandboxName::parse(text).str() == text); });
    RC_ASSERT(error.has_value() == !follows_the_rule(text));
    if (error) {
      RC_ASSERT(error->code() == ErrorCode::usage);
      RC_ASSERT(error->message().find('\x1b') == std::string::npos);
    }
  }));
}

TEST(SandboxName, BordersOfLength) {
  EXPECT_NO_THROW(SandboxName::parse("a"));
  EXPECT_NO_THROW(SandboxName::parse(std::string(40, 'a')));
  for (const auto& bad :
       {std::string(), std::string(41, 'a'), std::string("-a"), std::string("a-"), std::string("a\0b", 3)})
    EXPECT_TRUE(error_of([&] { SandboxName::parse(bad); })) << bad;
}

TEST(SandboxName, DeriveAndSuffixAlwaysFollowTheRule) {
  EXPECT_TRUE(rc::check([] {
    const auto name = SandboxName::derive(*near_names());
    RC_ASSERT(follows_the_rule(name.str()));
    const auto suffix = *rc::gen::elementOf(std::vector<std::string>{"beef", "0", "12345678"});
    const auto longer = name.with_suffix(suffix);
    RC_ASSERT(follows_the_rule(longer.str()));
    RC_ASSERT(longer.str().ends_with("-" + suffix));
  }));
  EXPECT_EQ(SandboxName::derive("My Project!").str(), "my-project");
  EXPECT_EQ(SandboxName::derive("___").str(), "sandbox");
  EXPECT_EQ(SandboxName::derive("a.b..c").str(), "a-b-c");
}

TEST(BranchLabel, IsASafeLabelAndTellsBranchesApart) {
  EXPECT_TRUE(rc::check([] {
    const auto branch = *near_names();
    const auto label = branch_label(branch);
    RC_ASSERT(std::regex_match(label, std::regex("[a-z0-9]([a-z0-9-]*[a-z0-9])?")));
    RC_ASSERT(label.size() <= 63U);  // a DNS label
    const auto other = *near_names();
    RC_ASSERT((branch == other) == (label == branch_label(other)));
  }));
  EXPECT_EQ(branch_label("main"), "main");
  EXPECT_THAT(branch_label("feature/X"), testing::MatchesRegex("feature-x-[0-9a-f]+"));
  EXPECT_NE(branch_label("feature/x"), branch_label("feature.x"));
}

// A branch that looks like another one's label with its digest must not get that label.
TEST(BranchLabel, CannotBeForged) {
  const auto label = branch_label("feature/x");
  EXPECT_NE(branch_label(label), label) << "a branch of exactly that name would share the session";
}

TEST(NearestWord, FindsTyposOnly) {
  const std::string_view words[] = {"memory", "network"};
  EXPECT_EQ(nearest_word("memroy", words), "memory");
  EXPECT_EQ(nearest_word("zzzzzzz", words), "");
  EXPECT_EQ(edit_distance("", "abc"), 3U);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3U);
}

}  // namespace
}  // namespace agentvm
