// What the programs of terminal sessions do: looked at by the agent, told to the host, checked there.
#include "guest/agent/session_watch.hpp"

#include <fstream>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "guest/agent/server.hpp"
#include "guest/control/control.hpp"
#include "guest/control/sessions.hpp"
#include "guest/protocol/frame.hpp"
#include "tests/support/hostile_text.hpp"
#include "tests/support/temporary_folder.hpp"

namespace agentvm::guest {
namespace {

using agent::parse_session_note;
using agent::parse_terminal;
using agent::SessionNote;
using agent::SessionWatch;
using test::error_of;

TEST(SessionNote, IsReadExactly) {
  EXPECT_EQ(parse_session_note("running 4711\n"), (SessionNote{4711, 0}));
  EXPECT_EQ(parse_session_note("ended 3\n"), (SessionNote{std::nullopt, 3}));
  EXPECT_EQ(parse_session_note("ended 0"), (SessionNote{std::nullopt, 0}));
  for (const char* bad :
       {"", "\n", "running", "running ", "running x", "running 1 2", "running -1", "ended", "ended -1", "ended 256",
        "ended 99999999999999999999", "running 99999999999999999999", "Ended 1"})
    EXPECT_EQ(parse_session_note(bad), std::nullopt) << bad;
}

TEST(SessionNote, TheTerminalIsAPseudoTerminalsNumber) {
  EXPECT_EQ(parse_terminal("9 (sh) S 1 9 9 34819 9 0"), 3u);
  EXPECT_EQ(parse_terminal("9 (a) S 1 2 3) S 1 9 9 34816 9"), 0u) << "a name may hold anything";
  EXPECT_EQ(parse_terminal("9 (sh) S 1 9 9 1083393 9"), 257u) << "the minor's upper bits are above the major";
  for (const char* bad :
       {"", "9", "9 (sh)", "9 (sh) S 1 9 9", "9 (sh) S 1 9 9 0 9", "9 (sh) S 1 9 9 1027 9", "9 (sh) S 1 9 9 x"})
    EXPECT_EQ(parse_terminal(bad), std::nullopt) << bad;
}

struct Guest {
  Guest() {
    for (const char* folder : {"run/agentvm/sessions", "proc/9", "dev/pts"}) fs::create_directories(root / folder);
    put("proc/9/stat", "9 (agent-session) S 1 9 9 34819 9 0");
    put("dev/pts/3", "");
  }
  void put(const std::string& path, const std::string& text) { std::ofstream(root / path) << text; }
  void set_time(const std::string& path, std::int64_t seconds) {
    const timespec times[2] = {{seconds, 0}, {seconds, 0}};
    ASSERT_EQ(::utimensat(AT_FDCWD, (root / path).c_str(), times, 0), 0);
  }
  void draw_at(std::int64_t seconds) { set_time("dev/pts/3", seconds); }
  void say_at(std::int64_t seconds, const std::string& word) {
    put("run/agentvm/sessions/web-main.said", word + "\n");
    set_time("run/agentvm/sessions/web-main.said", seconds);
  }
  std::string state(std::int64_t now) {
    watch.update(now);
    return watch.sessions().empty() ? "" : watch.sessions()[0]["state"].get<std::string>();
  }
  test::TemporaryFolder root;
  SessionWatch watch{root.path()};
};

TEST(SessionWatch, AProgramWorksWhileItsTerminalChanges) {
  Guest guest;
  EXPECT_EQ(guest.state(1000), "");
  guest.put("run/agentvm/sessions/web-main", "running 9\n");
  guest.draw_at(1000);
  EXPECT_EQ(guest.state(1000), "working");
  EXPECT_EQ(guest.state(1008), "working") << "the kernel tells times to 8 seconds";
  const auto token = guest.watch.token();
  EXPECT_EQ(guest.state(1020), "waiting");
  EXPECT_NE(guest.watch.token(), token);
  guest.draw_at(1024);
  EXPECT_EQ(guest.state(1025), "working");
  EXPECT_EQ(guest.watch.token(), token) << "what is told is as before";
  EXPECT_EQ(guest.state(500), "waiting") << "a clock that was set back";
  fs::remove(guest.root / "proc/9/stat");
  EXPECT_EQ(guest.state(1025), "gone");
  guest.put("run/agentvm/sessions/web-main", "ended 3\n");
  EXPECT_EQ(guest.state(1025), "ended");
  EXPECT_EQ(guest.watch.sessions(), Json::parse(R"([{"name": "web-main", "state": "ended", "code": 3}])"));
}

TEST(SessionWatch, AHookIsBelievedBeforeTheTerminal) {
  Guest guest;
  guest.put("run/agentvm/sessions/web-main", "running 9\n");
  guest.draw_at(1000);
  guest.say_at(1000, "waiting");
  EXPECT_EQ(guest.state(1001), "waiting");
  guest.draw_at(1008);
  EXPECT_EQ(guest.state(1009), "waiting") << "it may draw while it waits";
  fs::remove(guest.root / "run/agentvm/sessions/web-main.said");
  EXPECT_EQ(guest.state(1009), "working");
  EXPECT_EQ(guest.state(1020), "waiting") << "nothing said makes a silent program work";
  guest.say_at(1000, "waiting");
  guest.put("run/agentvm/sessions/web-main", "ended 3\n");
  EXPECT_EQ(guest.state(1009), "ended");
}

TEST(SessionWatch, ABellCountsUntilTheProgramDrawsOn) {
  Guest guest;
  guest.put("run/agentvm/sessions/web-main", "running 9\n");
  guest.draw_at(1000);
  guest.say_at(999, "bell");
  EXPECT_EQ(guest.state(1001), "working") << "the kernel's time is of a later span of 8 seconds: it drew on";
  guest.say_at(1006, "bell");
  EXPECT_EQ(guest.state(1007), "waiting") << "its question came with the bell, in the same span";
  guest.draw_at(1008);
  EXPECT_EQ(guest.state(1009), "working");
  guest.say_at(1009, "bells");
  EXPECT_EQ(guest.state(1009), "working") << "no word of ours";
  fs::remove(guest.root / "run/agentvm/sessions/web-main.said");
  fs::create_symlink("/etc/hostname", guest.root / "run/agentvm/sessions/web-main.said");
  EXPECT_EQ(guest.state(1009), "working");
}

TEST(SessionWatch, WhatIsNoNoteIsNoSession) {
  Guest guest;
  const auto folder = guest.root / "run/agentvm/sessions";
  fs::create_directory(folder / "folder");
  fs::create_symlink("/etc/hostname", folder / "link");
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  guest.put("run/agentvm/sessions/web.new", "ended 1\n");
  guest.put("run/agentvm/sessions/a\x1b[31m", "ended 1\n");
  guest.put("run/agentvm/sessions/long", "ended 1" + std::string(100'000, '0'));
  guest.put("run/agentvm/sessions/" + std::string(200, 'a'), "ended 1\n");
  EXPECT_EQ(guest.state(1000), "");
  for (int i = 0; i < 200; ++i) guest.put(fmt::format("run/agentvm/sessions/s{}", i), "ended 1\n");
  guest.watch.update(1000);
  EXPECT_LE(guest.watch.sessions().size(), session_limit);
}

TEST(SessionWatch, TheHostHearsOfIt) {
  Guest files;
  auto pair = make_socketpair();
  agent::ServerOptions options;
  options.stage = agent::Stage::running;
  options.root = files.root.path();
  agent::Server server(pair.second.get(), std::move(options));
  std::thread guest([&] { server.run(Deadline::after(milliseconds(60'000))); });
  const auto deadline = Deadline::after(milliseconds(30'000));
  {
    Control control(std::move(pair.first));
    control.hello(deadline);
    const auto before = control.sessions("", milliseconds(0), {}, deadline);
    EXPECT_TRUE(before.sessions.empty());
    files.put("run/agentvm/sessions/web-main", "ended 7\n");
    const auto after = control.sessions(before.token, milliseconds(20'000), {}, deadline);
    ASSERT_EQ(after.sessions.size(), 1u);
    EXPECT_EQ(after.sessions[0].name, "web-main");
    EXPECT_EQ(after.sessions[0].state, "ended");
    EXPECT_EQ(after.sessions[0].code, 7);
    std::stop_source stop;
    stop.request_stop();
    const auto error =
        error_of([&] { control.sessions(after.token, milliseconds(20'000), stop.get_token(), deadline); });
    EXPECT_EQ(error->code(), ErrorCode::cancelled);
  }
  ::shutdown(pair.second.get(), SHUT_RDWR);
  guest.join();
}

TEST(GuestSessions, NamesAreCleaned) {
  for (const auto& text : test::hostile_texts()) {
    const auto good = parse_guest_sessions({{"token", "0f"}, {"sessions", {{{"name", text}, {"state", "working"}}}}});
    ASSERT_EQ(good.sessions.size(), 1u);
    EXPECT_EQ(test::harm_in(good.sessions[0].name), "");
    EXPECT_EQ(good.sessions[0].name.find('\n'), std::string::npos);
    const auto refused = error_of([&] {
      parse_guest_sessions({{"token", "0f"}, {"sessions", {{{"name", "a"}, {"state", text}}}}});
    });
    ASSERT_TRUE(refused);
    EXPECT_EQ(test::harm_in(refused->message()), "");
  }
}

TEST(GuestSessions, AreCheckedByteForByte) {
  const auto parse = [](const std::string& session) {
    return parse_guest_sessions({{"token", "0f"}, {"sessions", Json::array({Json::parse(session)})}});
  };
  const auto good = parse(R"({"name": "a\u001b[31m", "state": "working", "code": "not read"})");
  ASSERT_EQ(good.sessions.size(), 1u);
  EXPECT_EQ(good.sessions[0].name.find('\x1b'), std::string::npos);
  for (const char* bad :
       {R"({"name": "a", "state": "asleep"})", R"({"name": 1, "state": "working"})", R"({"name": "a"})",
        R"({"name": "a", "state": "ended"})", R"({"name": "a", "state": "ended", "code": 256})",
        R"({"name": "a", "state": "ended", "code": -1})", R"({"name": "a", "state": "ended", "code": "0"})", "[]", "3"})
    EXPECT_TRUE(error_of([&] { parse(bad); })) << bad;
  auto many = Json::array();
  for (std::size_t i = 0; i <= session_limit; ++i) many.push_back({{"name", "a"}, {"state", "working"}});
  EXPECT_TRUE(error_of([&] { parse_guest_sessions({{"token", "0f"}, {"sessions", many}}); }));
  EXPECT_TRUE(error_of([&] { parse_guest_sessions({{"token", "0F"}, {"sessions", Json::array()}}); }));
}

}  // namespace
}  // namespace agentvm::guest
