// The manager's life: started once, idle, killed, replaced, and hostile clients.

#include <gmock/gmock.h>

#include "cli/wire/lines.hpp"
#include "cli/wire/messages.hpp"
#include "tests/contract/cli/home.hpp"
#include "vmm/base/file_lock.hpp"
#include "vmm/base/paths.hpp"
#include "vmm/base/unix_socket.hpp"

namespace agentvm::test {
namespace {

class Manager : public ClientTest {
 protected:
  Paths paths() const {
    return resolve_paths(
        [&](const std::string& name) { return name == "AGENTVM_HOME" ? home_.path().string() : std::string(); });
  }
  UniqueFd connect() const { return connect_unix(paths().manager_socket(), Deadline::after(step_limit)); }
  static void send(int fd, const std::string& text) { write_all(fd, text, Deadline::after(step_limit)); }
  static std::string hello() { return dump_json(wire::to_json(wire::Hello{AGENTVM_VERSION, "", {}, 1})) + "\n"; }
  /// Everything until the manager closes.
  static std::string rest(int fd) {
    std::string text;
    char buffer[4096];
    try {
      while (const auto count = read_some(fd, buffer, sizeof buffer, Deadline::after(step_limit)))
        text.append(buffer, count);
    } catch (const Error& error) {
      if (error.code() == ErrorCode::timed_out) text += "(still open)";
    }
    return text;
  }
};

TEST_F(Manager, TwentyClientsAtOnceStartExactlyOne) {
  std::vector<Process> clients;
  for (int i = 0; i < 20; ++i) clients.push_back(Process::spawn(spec({"list"})));
  for (auto& client : clients) {
    const auto status = client.wait(Deadline::after(milliseconds(60'000)));
    ASSERT_TRUE(status);
    EXPECT_TRUE(status->ok()) << status->describe();
  }
  EXPECT_EQ(started().size(), 1u);
}

TEST_F(Manager, KilledManagerIsReplacedByTheNextCommand) {
  ASSERT_TRUE(run({"list"}).status.ok());
  const int first = manager_pid();
  ASSERT_EQ(::kill(first, SIGKILL), 0);
  ASSERT_TRUE(eventually([&] { return !alive(first); }));
  EXPECT_TRUE(std::filesystem::exists(paths().manager_socket())) << "the stale socket is what this test is about";
  EXPECT_TRUE(run({"list"}).status.ok());
  EXPECT_NE(manager_pid(), first);
}

TEST_F(Manager, EndsByItselfWhenIdleAndNothingRuns) {
  put("fake-idle-milliseconds", "200");
  ASSERT_TRUE(run({"list"}).status.ok());
  ASSERT_EQ(started().size(), 1u);
  EXPECT_TRUE(eventually([&] { return !alive(started()[0]); }));
  EXPECT_FALSE(std::filesystem::exists(paths().manager_socket()));
  EXPECT_EQ(run({"manager", "status"}).status.code, 1);
}

TEST_F(Manager, StaysWhileASandboxRuns) {
  put("fake-idle-milliseconds", "100");
  put("fake-busy", "");
  ASSERT_TRUE(run({"list"}).status.ok());
  const int pid = started().at(0);
  std::this_thread::sleep_for(milliseconds(800));
  EXPECT_TRUE(alive(pid));
  std::filesystem::remove(home_ / "fake-busy");
  EXPECT_TRUE(eventually([&] { return !alive(pid); }));
}

/// A logout takes the runtime folder along, while a guest keeps the manager here.
TEST_F(Manager, IsFoundAgainWhenItsRuntimeFolderWasTakenAway) {
  put("fake-busy", "");
  put("fake-idle-milliseconds", "400");
  ASSERT_TRUE(run({"list"}).status.ok());
  const int pid = started().at(0);
  remove_tree(paths().runtime);
  ASSERT_TRUE(eventually([&] { return std::filesystem::exists(paths().manager_socket()); }));
  EXPECT_TRUE(run({"list"}).status.ok());
  EXPECT_EQ(started(), std::vector<int>{pid});
}

/// cron has no XDG_RUNTIME_DIR, a login session has one: the same state folder, another socket.
TEST_F(Manager, IsFoundFromWhereTheRuntimeFolderIsAnother) {
  ASSERT_TRUE(run({"list"}).status.ok());
  const int pid = started().at(0);
  const auto elsewhere = home_ / "elsewhere";
  std::filesystem::create_directory(elsewhere);
  std::filesystem::rename(paths().manager_socket(), elsewhere / paths().manager_socket().filename());
  write_file_atomic(paths().manager_address(), (elsewhere / paths().manager_socket().filename()).string());
  EXPECT_TRUE(run({"list"}).status.ok());
  EXPECT_EQ(started(), std::vector<int>{pid});
  // What is written there is a hint: a name that nobody serves is passed over.
  write_file_atomic(paths().manager_address(), (home_ / "nowhere" / paths().manager_socket().filename()).string());
  std::filesystem::remove(elsewhere / paths().manager_socket().filename());
  ASSERT_EQ(::kill(pid, SIGKILL), 0);
  ASSERT_TRUE(eventually([&] { return !alive(pid); }));
  EXPECT_TRUE(run({"list"}).status.ok());
}

TEST_F(Manager, StopsOnRequestAndOnSigterm) {
  ASSERT_TRUE(run({"list"}).status.ok());
  EXPECT_EQ(run({"manager", "stop"}).status.code, 0);
  EXPECT_TRUE(eventually([&] { return !alive(started().at(0)); }));
  EXPECT_EQ(run({"manager", "stop"}).status.code, 0) << "none running is what was asked for";
  ASSERT_TRUE(run({"list"}).status.ok());
  const int second = manager_pid();
  ::kill(second, SIGTERM);
  EXPECT_TRUE(eventually([&] { return !alive(second); }));
  EXPECT_FALSE(std::filesystem::exists(paths().manager_socket()));
}

TEST_F(Manager, OfAnotherVersionHandsOver) {
  put("fake-version", "0.0.1");
  auto old = Process::spawn([&] {
    ProcessSpec result;
    result.argv = {(prefix() / "libexec/agentvm/agentvm-manager").string()};
    result.env = environment();
    return result;
  }());
  ASSERT_TRUE(eventually([&] { return run({"manager", "status"}).status.ok(); }));
  std::filesystem::remove(home_ / "fake-version");
  EXPECT_TRUE(run({"list"}).status.ok());
  EXPECT_TRUE(old.wait(Deadline::after(step_limit)));
  const auto status = json({"manager", "status", "--json"});
  EXPECT_EQ(status["version"], AGENTVM_VERSION);
  EXPECT_NE(status["pid"], old.pid());
}

TEST_F(Manager, OfAnotherVersionAtWorkStaysAndIsNamed) {
  put("fake-version", "0.0.1");
  put("fake-retire-milliseconds", "200");
  auto old = Process::spawn([&] {
    ProcessSpec result;
    result.argv = {(prefix() / "libexec/agentvm/agentvm-manager").string()};
    result.env = environment();
    return result;
  }());
  ASSERT_TRUE(eventually([&] { return run({"manager", "status"}).status.ok(); }));
  // A client of the old version, at work.
  const auto worker = connect();
  send(worker.get(), dump_json(wire::to_json(wire::Hello{"0.0.1", "", {}, 1})) + "\n" +
                         R"({"id":1,"method":"start","params":{}})" + "\n");
  char some[1];
  read_some(worker.get(), some, 1, Deadline::after(step_limit));
  std::this_thread::sleep_for(milliseconds(100));
  const auto refused = run({"list"});
  EXPECT_EQ(refused.status.code, 2);
  EXPECT_THAT(refused.err, testing::HasSubstr("0.0.1"));
  EXPECT_THAT(refused.err, testing::HasSubstr(std::to_string(old.pid())));
  EXPECT_THAT(refused.err, testing::HasSubstr("agentvm manager stop"));
  EXPECT_FALSE(old.wait(Deadline::after(milliseconds(50)))) << "it goes on serving its own version";
  EXPECT_TRUE(run({"manager", "stop"}).status.ok());
  EXPECT_TRUE(old.wait(Deadline::after(step_limit)));
  std::filesystem::remove(home_ / "fake-version");
  EXPECT_TRUE(run({"list"}).status.ok());
}

TEST_F(Manager, OfAnotherBuildHandsOver) {
  ASSERT_TRUE(run({"list"}).status.ok());
  const int first = manager_pid();
  // The same program under a new inode, as an installation leaves it.
  const auto program = prefix() / "libexec/agentvm/agentvm-manager";
  std::filesystem::copy_file(program, program.string() + ".new");
  std::filesystem::rename(program.string() + ".new", program);
  EXPECT_TRUE(run({"list"}).status.ok());
  EXPECT_NE(manager_pid(), first);
}

TEST_F(Manager, ThatDoesNotComeUpIsExplained) {
  put("fake-never-listen", "the reason it gave\n");
  const auto result = run({"list"});
  EXPECT_EQ(result.status.code, 3);
  EXPECT_THAT(result.err, testing::HasSubstr("exit status 9"));
  EXPECT_THAT(result.err, testing::HasSubstr(paths().manager_log().string()));
  EXPECT_THAT(result.err, testing::HasSubstr("the reason it gave"));
}

TEST_F(Manager, SecondOneNamesTheFirst) {
  ASSERT_TRUE(run({"list"}).status.ok());
  const auto lock = FileLock::try_acquire(paths().manager_lock());
  EXPECT_FALSE(lock);
  EXPECT_EQ(read_tail(paths().manager_lock(), 32), std::to_string(manager_pid()));
}

TEST_F(Manager, NonsenseIsAnsweredAndTheConnectionEnds) {
  ASSERT_TRUE(run({"list"}).status.ok());
  const std::vector<std::string> bad = {
      "GET / HTTP/1.1\r\n\r\n",
      R"({"hello":{"magic":"other","version":"1"}})"
      "\n",
      hello() + "[1,2]\n",
      hello() + R"({"method":"list"})"
                "\n",
      hello() + R"({"id":-1,"method":"list"})"
                "\n",
      hello() + R"({"id":0,"method":"list"})"
                "\n",
      hello() + R"({"id":1,"method":7})"
                "\n",
      hello() + R"({"id":1,"method":"list","params":[]})"
                "\n",
      hello() + "\xff\xfe\n",
      hello() + std::string(200, '[') + "\n",
      hello() + std::string("{\"id\":1,\0}", 10) + "\n",
      hello() + std::string(wire::line_limit_bytes + 1, 'x'),
  };
  for (const auto& text : bad) {
    const auto fd = connect();
    try {
      send(fd.get(), text);
    } catch (const Error&) {
      // It was cut off before it had said everything.
    }
    const auto answer = rest(fd.get());
    EXPECT_THAT(answer, testing::HasSubstr(R"("error")")) << text.substr(0, 60);
    EXPECT_THAT(answer, testing::Not(testing::HasSubstr("still open"))) << text.substr(0, 60);
  }
  EXPECT_EQ(started().size(), 1u) << "none of it ended the manager";
  EXPECT_TRUE(run({"list"}).status.ok());
}

TEST_F(Manager, AnswersRequestsOnOneConnectionByTheirIds) {
  ASSERT_TRUE(run({"list"}).status.ok());
  const auto fd = connect();
  std::string text = hello();
  for (int id = 1; id <= 40; ++id)
    text +=
        R"({"id":)" + std::to_string(id) + R"(,"method":"status","params":{"name":"n)" + std::to_string(id) + "\"}}\n";
  // In pieces that respect no line.
  for (std::size_t at = 0; at < text.size(); at += 7) send(fd.get(), text.substr(at, 7));
  std::map<int, std::string> names;
  wire::LineBuffer lines(wire::line_limit_bytes);
  char buffer[512];
  while (names.size() < 40) {
    const auto count = read_some(fd.get(), buffer, sizeof buffer, Deadline::after(step_limit));
    ASSERT_GT(count, 0u);
    lines.append({buffer, count});
    while (const auto line = lines.next()) {
      const auto message = parse_json(*line, "answer");
      if (message.contains("result")) names[message["id"]] = message["result"]["name"];
    }
  }
  for (int id = 1; id <= 40; ++id) EXPECT_EQ(names[id], "n" + std::to_string(id));
}

std::string note(int id, const std::string& name, int milliseconds = 20) {
  return dump_json(
             wire::to_json(wire::ClientMessage{static_cast<std::uint64_t>(id),
                                               "note",
                                               {{"name", name}, {"number", id}, {"milliseconds", milliseconds}}})) +
         "\n";
}

TEST_F(Manager, RequestsOfOneSandboxRunInOrderAndOthersBeside) {
  ASSERT_TRUE(run({"list"}).status.ok());
  const auto fd = connect();
  std::string text = hello();
  for (int id = 1; id <= 8; ++id) text += note(id, "a");
  text += note(9, "b", 1);
  send(fd.get(), text);
  const auto notes = [&] { return read_file_if_exists(home_ / "notes").value_or(""); };
  ASSERT_TRUE(eventually(
      [&] { return notes().find("end a8\n") != std::string::npos && notes().find("end b9\n") != std::string::npos; }));
  std::string of_a;
  for (int id = 1; id <= 8; ++id) of_a += "begin a" + std::to_string(id) + "\nend a" + std::to_string(id) + "\n";
  auto seen = notes();
  EXPECT_LT(seen.find("end b9"), seen.find("end a8")) << "another sandbox waited for this one";
  for (const std::string line : {"begin b9\n", "end b9\n"}) seen.erase(seen.find(line), line.size());
  EXPECT_EQ(seen, of_a);
}

TEST_F(Manager, CancelledWhileItWaitsIsAnsweredWithoutHavingRun) {
  ASSERT_TRUE(run({"list"}).status.ok());
  const auto fd = connect();
  send(fd.get(), hello() + note(1, "a", 500) + note(2, "a") +
                     R"({"id":2,"method":"cancel"})"
                     "\n");
  std::string seen;
  char buffer[4096];
  while (seen.find(R"("id":2)") == std::string::npos) {
    const auto count = read_some(fd.get(), buffer, sizeof buffer, Deadline::after(step_limit));
    ASSERT_GT(count, 0u);
    seen.append(buffer, count);
  }
  EXPECT_THAT(seen, testing::HasSubstr(R"("code":"cancelled")"));
  EXPECT_EQ(read_file_if_exists(home_ / "notes").value_or("").find("a2"), std::string::npos);
}

TEST_F(Manager, QuickAnswersDoNotWaitForLongWork) {
  ASSERT_TRUE(run({"list"}).status.ok());
  const auto fd = connect();
  std::string text = hello();
  for (int id = 1; id <= 20; ++id) text += note(id, "s" + std::to_string(id), 3000);
  send(fd.get(), text);
  ASSERT_TRUE(eventually([&] { return json({"manager", "status", "--json"})["requests"] == 21; }));
  const auto begun = std::chrono::steady_clock::now();
  EXPECT_TRUE(run({"list"}).status.ok());
  EXPECT_LT(std::chrono::steady_clock::now() - begun, milliseconds(2500));
}

TEST_F(Manager, ClientThatLeavesCancelsItsWork) {
  ASSERT_TRUE(run({"list"}).status.ok());
  {
    const auto fd = connect();
    send(fd.get(), hello() + R"({"id":1,"method":"start","params":{}})"
                             "\n");
    ASSERT_TRUE(eventually([&] { return json({"manager", "status", "--json"})["requests"] == 2; }));
  }
  EXPECT_TRUE(eventually([&] { return json({"manager", "status", "--json"})["requests"] == 1; }));
}

TEST_F(Manager, TakesWhatItNeedsOfTheEnvironmentAndNothingElse) {
  auto first = spec({"list"});
  (*first.env)["NODE_EXTRA_CA_CERTS"] = "/etc/company.pem";
  (*first.env)["SSL_CERT_FILE"] = "/etc/roots.pem";
  (*first.env)["npm_config_registry"] = "https://registry.example/";
  (*first.env)["AWS_SECRET_ACCESS_KEY"] = "secret";
  ASSERT_TRUE(agentvm::run(std::move(first), Deadline::after(step_limit)).status.ok());
  const auto environment = read_file(fmt::format("/proc/{}/environ", manager_pid()));
  EXPECT_THAT(environment, testing::HasSubstr("NODE_EXTRA_CA_CERTS=/etc/company.pem"));
  EXPECT_THAT(environment, testing::HasSubstr("SSL_CERT_FILE=/etc/roots.pem"));
  EXPECT_THAT(environment, testing::HasSubstr("npm_config_registry=https://registry.example/"));
  EXPECT_THAT(environment, testing::Not(testing::HasSubstr("secret")));
}

TEST_F(Manager, ClientThatDoesNotReadHoldsUpNobody) {
  ASSERT_TRUE(run({"list"}).status.ok());
  const auto fd = connect();
  send(fd.get(), hello() + R"({"id":1,"method":"start","params":{}})"
                           "\n");
  std::this_thread::sleep_for(milliseconds(300));
  EXPECT_TRUE(run({"list"}).status.ok());
}

}  // namespace
}  // namespace agentvm::test
