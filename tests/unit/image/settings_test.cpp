#include "guest/image/settings.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace agentvm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

TEST(AgentAccount, IsAddedToWhatIsThere) {
  Accounts accounts{"root:x:0:0:root:/root:/bin/bash\n", "root:*:1::::::\n", "root:x:0:\nsudo:x:27:\nwheel:x:10:joe\n",
                    "root:*::\nsudo:*::\n"};
  EXPECT_THAT(add_agent_account(accounts, "/bin/sh"), IsEmpty());
  EXPECT_EQ(accounts.passwd, "root:x:0:0:root:/root:/bin/bash\nagent:x:1000:1000:agent:/home/agent:/bin/sh\n");
  EXPECT_EQ(accounts.shadow, "root:*:1::::::\nagent:*:19700:0:99999:7:::\n");
  EXPECT_EQ(accounts.group, "root:x:0:\nsudo:x:27:agent\nwheel:x:10:joe,agent\nagent:x:1000:\n");
  EXPECT_EQ(accounts.gshadow, "root:*::\nsudo:*::agent\nagent:!::\n");
}

TEST(AgentAccount, WhoHadItsIdOrNameMakesRoom) {
  Accounts accounts{
      "root:x:0:0::/root:/bin/sh\nubuntu:x:1000:1000::/home/ubuntu:/bin/sh\nagent:x:500:500::/:/bin/sh\n",
      "root:*:1::::::\nubuntu:!:1::::::\nagent:!:1::::::", "ubuntu:x:1000:\nagent:x:500:\nubuntu2:x:10000:\n", ""};
  EXPECT_THAT(add_agent_account(accounts, "/bin/bash"), ElementsAre("ubuntu", "agent"));
  EXPECT_THAT(accounts.passwd, Not(HasSubstr("ubuntu")));
  EXPECT_THAT(accounts.passwd, Not(HasSubstr(":500:")));
  EXPECT_EQ(accounts.shadow, "root:*:1::::::\nagent:*:19700:0:99999:7:::\n");
  EXPECT_EQ(accounts.group, "ubuntu2:x:10000:\nagent:x:1000:\n");
  EXPECT_EQ(accounts.gshadow, "") << "there is none";
}

}  // namespace
}  // namespace agentvm
