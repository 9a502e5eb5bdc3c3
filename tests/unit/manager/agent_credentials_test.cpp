// Which files of the user's home are lent, and what is said of those that are not.
#include "cli/manager/ops/agent_credentials.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.hpp"

namespace agentvm::manager {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(AgentCredentials, WhatCannotBeLentIsNamed) {
  const test::TemporaryFolder home;
  std::vector<std::string> warnings;
  guest::AgentDefinition agent;
  agent.title = "Own";
  const auto read = [&] {
    warnings.clear();
    return read_credentials(agent, home.path(), [&](const std::string& text) { warnings.push_back(text); });
  };
  EXPECT_THAT(read(), IsEmpty());
  EXPECT_THAT(warnings, ElementsAre(HasSubstr("not known where Own keeps its login")));
  agent.credentials = {"login", "folder", "large", "binary", "absent"};
  EXPECT_THAT(read(), IsEmpty());
  EXPECT_THAT(warnings, ElementsAre(HasSubstr("Own has no login in")));
  write_file_atomic(home / "login", "token\n");
  fs::create_directory(home / "folder");
  write_file_atomic(home / "large", std::string(200u << 10, 'x'));
  write_file_atomic(home / "binary", std::string("a\0b", 3));
  const auto lent = read();
  ASSERT_EQ(lent.size(), 1u);
  EXPECT_EQ(lent[0].path, "login");
  EXPECT_EQ(lent[0].content, "token\n");
  EXPECT_THAT(warnings, ElementsAre(HasSubstr("folder is not lent"), HasSubstr("large is not lent"),
                                    HasSubstr("binary is not lent")));
}

}  // namespace
}  // namespace agentvm::manager
