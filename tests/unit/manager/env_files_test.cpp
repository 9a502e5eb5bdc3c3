#include "cli/manager/ops/env_files.hpp"

#include <gmock/gmock.h>

#include "tests/support/temporary_folder.hpp"

namespace agentvm::manager {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

TEST(EnvFiles, ALaterFileWinsAndWhatIsNoneIsNamed) {
  const test::TemporaryFolder folder;
  const auto project = folder / "project";
  fs::create_directories(project / "sub");
  write_file_atomic(folder / "outside", "STOLEN=1\n");
  write_file_atomic(project / ".env", "A=1\nB=1\n");
  write_file_atomic(project / "sub/.env.local", "B=2\n");
  write_file_atomic(project / "broken", "C=3\nwords\n");
  write_file_atomic(project / "large", "D=" + std::string(1u << 20, 'x'));
  // What a commit of the guest can bring.
  fs::create_symlink("../outside", project / "link");
  fs::create_directory_symlink("..", project / "up");
  std::vector<std::string> warnings;
  const auto variables = read_env_files(project,
                                        {".env", "sub/.env.local", "absent", "broken", "large", "link", "up/outside",
                                         "../outside", "sub", (folder / "outside").string()},
                                        [&](const std::string& text) { warnings.push_back(text); });
  EXPECT_THAT(variables, ElementsAre(Pair("A", "1"), Pair("B", "2")));
  EXPECT_THAT(
      warnings,
      ElementsAre(HasSubstr("absent"), "env.files: broken:2: expected NAME=VALUE",
                  HasSubstr("large is larger than 1 MiB"), HasSubstr("link is, or is behind, a symbolic link"),
                  HasSubstr("up/outside is, or is behind, a symbolic link"), HasSubstr("is outside the project"),
                  HasSubstr("sub is no regular file"), HasSubstr("is outside the project")));
}

TEST(EnvCommands, WhatTheyPrintIsTheValueAndFailuresTellTheNameAlone) {
  const test::TemporaryFolder home;
  std::vector<std::string> warnings;
  const auto variables = run_env_commands({"A=printf 'one\\ntwo\\n\\n'", "B=echo secret; exit 3", "C=true", "D=pwd",
                                           "E=head -c 70000 /dev/zero | tr '\\0' x", "F=cat"},
                                          home.path(), [&](const std::string& text) { warnings.push_back(text); }, {});
  EXPECT_THAT(variables, ElementsAre(Pair("A", "one\ntwo"), Pair("D", home.path().string())));
  EXPECT_THAT(warnings, ElementsAre("env.commands: B is not given: its command ended with exit status 3",
                                    "env.commands: C is not given: its command printed nothing",
                                    HasSubstr("E is not given: its command printed more than 64 KiB"),
                                    HasSubstr("F is not given: its command printed nothing")));
}

}  // namespace
}  // namespace agentvm::manager
