// git-remote-agentvm as git talks to it (gitremote-helpers(7)), over the fake operations.

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "tests/contract/cli/home.hpp"

namespace agentvm::test {
namespace {

using testing::HasSubstr;
using testing::Not;

class RemoteHelper : public ClientTest {
 protected:
  RunResult talk(const std::string& sandbox, std::string_view input) const {
    auto helper = spec({});
    helper.argv = {(prefix() / "bin/git-remote-agentvm").string(), "origin", sandbox};
    return agentvm::run(helper, Deadline::after(milliseconds(60'000)), input);
  }
};

const std::string branches = fmt::format("{:a>40} refs/heads/a\n{:b>40} refs/heads/main\n\n", "", "");

TEST_F(RemoteHelper, HeadComesFirstWhereverItStands) {
  EXPECT_EQ(talk("main", "list\n\n").out, fmt::format("@refs/heads/main HEAD\n{}", branches));
  EXPECT_EQ(talk("detached", "list\n\n").out, fmt::format("{:d>40} HEAD\n{}", "", branches));
  // A branch that is not on offer is nothing that HEAD could be.
  EXPECT_EQ(talk("elsewhere", "list\n\n").out, branches);
}

TEST_F(RemoteHelper, SaysWhatItCanAndWhatWasLeftOut) {
  const auto said = talk("main", "capabilities\noption verbosity 1\noption depth 1\noption progress false\nlist\n\n");
  EXPECT_EQ(said.out, fmt::format("fetch\noption\n\nok\nunsupported\nok\n@refs/heads/main HEAD\n{}", branches));
  EXPECT_THAT(said.err, HasSubstr("is left out: it is called so"));
  EXPECT_THAT(said.err, Not(HasSubstr("\x1b")));
}

TEST_F(RemoteHelper, TakesNoPush) {
  const auto said = talk("main", "capabilities\nlist for-push\n\n");
  EXPECT_FALSE(said.status.ok());
  EXPECT_THAT(said.err, HasSubstr("a sandbox takes no push"));
}

}  // namespace
}  // namespace agentvm::test
