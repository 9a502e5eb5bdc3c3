#include <gmock/gmock.h>
#include <rapidcheck.h>
#include <sys/stat.h>

#include "tests/support/temporary_folder.hpp"
#include "vmm/base/clock.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/paths.hpp"

namespace agentvm {
namespace {

using test::error_of;
using testing::HasSubstr;
using testing::Not;

Paths paths_of(std::map<std::string, std::string> variables) {
  return resolve_paths([variables](const std::string& name) {
    const auto found = variables.find(name);
    return found == variables.end() ? std::string() : found->second;
  });
}

TEST(Paths, HomeOfOursHoldsEverything) {
  const auto paths = paths_of({{"AGENTVM_HOME", "/h"}, {"HOME", "/u"}, {"XDG_STATE_HOME", "/elsewhere"}});
  EXPECT_EQ(paths.config_file, "/h/config/config.yaml");
  for (const auto& path : {paths.state, paths.data, paths.runtime}) EXPECT_EQ(path.parent_path(), "/h");
  EXPECT_EQ(paths_of({{"AGENTVM_HOME", "/h"}, {"AGENTVM_CONFIG", "/c.yaml"}}).config_file, "/c.yaml");
}

TEST(Paths, FollowTheXdgRules) {
  const auto plain = paths_of({{"HOME", "/u"}});
  EXPECT_EQ(plain.config_file, "/u/.config/agentvm/config.yaml");
  EXPECT_EQ(plain.state, "/u/.local/state/agentvm");
  EXPECT_EQ(plain.data, "/u/.local/share/agentvm");
  EXPECT_EQ(plain.runtime, plain.state / "run") << "no runtime folder: never /tmp";
  EXPECT_EQ(paths_of({{"HOME", "/u"}, {"XDG_STATE_HOME", "relative"}}).state, "/u/.local/state/agentvm");
  EXPECT_EQ(paths_of({{"HOME", "/u"}, {"XDG_STATE_HOME", "/s"}}).state, "/s/agentvm");
  EXPECT_EQ(error_of([] { paths_of({}); })->code(), ErrorCode::host_lacks);
  EXPECT_EQ(error_of([] { paths_of({{"AGENTVM_HOME", "here"}}); })->code(), ErrorCode::usage);
}

TEST(Paths, StateFoldersHaveTheirOwnManagerAndShortSockets) {
  const auto one = paths_of({{"HOME", "/u"}, {"XDG_STATE_HOME", "/a"}}),
             two = paths_of({{"HOME", "/u"}, {"XDG_STATE_HOME", "/b"}});
  EXPECT_NE(one.manager_socket().filename(), two.manager_socket().filename());
  EXPECT_EQ(one.sockets(std::string(40, 'n')).filename().string().size(), 8U);
  EXPECT_NE(one.sockets("a"), one.sockets("b"));
}

TEST(Log, LinesAreCleanedFilteredAndPrivateAndTheFileIsBounded) {
  const test::TemporaryFolder folder;
  const auto file = folder / "test.log";
  log::to_file(file);
  log::set_levels("sync:debug,noisy:off,*:warn");
  log::debug("sync", "seen {}", 1);
  log::info("other", "hidden");
  log::warn("other", "evil \x1b]0;x\x07 line\nforged: second");
  log::info("noisy", "hidden");
  const auto text = read_file(file);
  EXPECT_THAT(text, HasSubstr("sync: seen 1"));
  EXPECT_THAT(text, Not(HasSubstr("hidden")));
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2) << "a message cannot forge a second line";
  struct stat status {};
  ASSERT_EQ(::stat(file.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
  const std::string line(4000, 'x');
  for (int i = 0; i < 3000; ++i) log::error("sync", "{}", line);  // 12 MiB
  std::uintmax_t total = 0;
  for (const auto& entry : fs::directory_iterator(folder.path())) {
    total += entry.file_size();
    ASSERT_EQ(::stat(entry.path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0077, 0U) << entry.path() << " after rotation";
  }
  EXPECT_LE(total, 2u * (4u << 20));
  EXPECT_THAT(error_of([] { log::set_levels("sync:loud"); })->message(), HasSubstr("'loud'"));
}

TEST(Clock, TimesGoThereAndBack) {
  EXPECT_EQ(format_time(0), "1970-01-01T00:00:00Z");
  EXPECT_TRUE(rc::check([] {
    const auto seconds = *rc::gen::inRange<std::int64_t>(0, 253402300799);
    RC_ASSERT(parse_time(format_time(seconds)) == seconds);
  }));
  for (const auto* text :
       {"", "yesterday", "2026-01-31", "2026-01-31T08:09:10", "2026-01-31T08:09:10Zx", "2026-13-01T00:00:00Z"})
    EXPECT_EQ(error_of([&] { parse_time(text); })->code(), ErrorCode::usage) << text;
}

TEST(Deadline, NeverAndSoonerAndRounding) {
  EXPECT_FALSE(Deadline::never().expired());
  EXPECT_EQ(Deadline::never().poll_timeout(), -1);
  EXPECT_EQ(Deadline::after(milliseconds(-5)).remaining(), milliseconds(0));
  EXPECT_TRUE(Deadline::after(milliseconds(0)).expired());
  EXPECT_EQ(Deadline::never().sooner(Deadline::after(milliseconds(0))).poll_timeout(), 0);
  EXPECT_GT(Deadline::after(milliseconds(50)).poll_timeout(), 0);
}

}  // namespace
}  // namespace agentvm
