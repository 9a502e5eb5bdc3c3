// The guest's server and the host's client together, over a socketpair and without a machine.
#include "guest/agent/server.hpp"

#include <csignal>
#include <future>
#include <thread>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest/agent/apply.hpp"
#include "guest/control/control.hpp"
#include "tests/support/temporary_folder.hpp"

namespace agentvm::guest {
namespace {

using agent::Server;
using agent::ServerOptions;
using agent::Stage;
using test::error_of;
using testing::HasSubstr;

Deadline soon() {
  return Deadline::after(milliseconds(20'000));
}

Identity sample_identity() {
  Identity identity;
  identity.hostname = "box";
  identity.machine_id = std::string(32, 'a');
  identity.host_key_private = "private\n";
  identity.host_key_public = "public\n";
  identity.files.push_back({"/etc/agentvm/note", 0640, 0, 0, std::string("\0\xFFnote", 6)});
  return identity;
}

/// A server on its own thread, with the real root for users (programs run for real) unless the test says otherwise.
class Guest {
 public:
  explicit Guest(Stage stage, ServerOptions options = {}) {
    auto pair = make_socketpair();
    host = std::move(pair.first);
    guest_ = std::move(pair.second);
    options.stage = stage;
    options.boot_id = "boot";
    if (!options.power_off)
      options.power_off = [this](milliseconds given) {
        patience_ms = given.count();
        ++powered_off;
      };
    server_ = std::make_unique<Server>(guest_.get(), std::move(options));
    thread_ = std::thread([this] {
      end = server_->run(Deadline::after(milliseconds(60'000)));
      while (end == Server::End::identity_applied) {
        server_->set_running(WorkspaceKind::none);
        if (server_->run(Deadline::after(milliseconds(60'000))) != Server::End::identity_applied) break;
      }
    });
  }
  ~Guest() {
    ::shutdown(guest_.get(), SHUT_RDWR);
    thread_.join();
  }
  std::unique_ptr<Control> control() { return std::make_unique<Control>(std::move(host)); }

  UniqueFd host;
  std::atomic<int> powered_off = 0;
  std::atomic<long long> patience_ms = 0;
  std::atomic<Server::End> end{};

 private:
  UniqueFd guest_;
  std::unique_ptr<Server> server_;
  std::thread thread_;
};

std::string me() {
  return ::geteuid() == 0 ? "root" : std::getenv("USER") ? std::getenv("USER") : "root";
}

ControlExec shell(const std::string& script) {
  return {.argv = {"/bin/sh", "-c", script}, .cwd = "/", .user = me()};
}

TEST(Agent, SaysHelloAndKnowsItsStage) {
  Guest guest(Stage::init);
  auto control = guest.control();
  const auto hello = control->hello(soon());
  EXPECT_EQ(hello.version, AGENTVM_VERSION);
  EXPECT_EQ(hello.boot_id, "boot");
  EXPECT_EQ(hello.stage, Hello::Stage::init);
  EXPECT_GT(hello.uptime_milliseconds, 0);
  EXPECT_EQ(error_of([&] { control->exec(shell("true"), soon()); })->code(), ErrorCode::wrong_state);
}

TEST(Agent, AppliesTheIdentityOnceAndGoesOn) {
  test::TemporaryFolder root;
  ServerOptions options;
  std::atomic<int> applied = 0, updated = 0;
  std::atomic<std::int64_t> clock = 0;
  options.apply = [&](const Identity& identity) {
    ++applied;
    clock = identity.unix_ns;
    agent::write_identity(root.path(), identity);
  };
  options.update = [&](const Identity&) { ++updated; };
  Guest guest(Stage::init, std::move(options));
  auto control = guest.control();
  control->hello(soon());
  control->identify(sample_identity(), soon());
  EXPECT_EQ(read_file(root / "etc/hostname"), "box\n");
  EXPECT_EQ(read_file(root / "etc/agentvm/note"), std::string("\0\xFFnote", 6));
  EXPECT_GT(clock, std::int64_t{1'600'000'000} * 1'000'000'000) << "the host's time goes along by itself";
  control->identify(sample_identity(), soon());
  EXPECT_EQ(applied, 1);
  EXPECT_EQ(updated, 1);
  EXPECT_EQ(control->exec(shell("true"), soon()).code, 0);
}

TEST(Agent, AMachineThatIsNobodysTakesOneIdentityAndNothingElse) {
  test::TemporaryFolder root;
  ServerOptions options;
  options.root = root.path();
  std::atomic<int> adopted = 0;
  options.adopt = [&](const Identity& identity) {
    if (identity.hostname == "bad") throw Error(ErrorCode::operation_failed, "no room");
    ++adopted;
    return "another boot";
  };
  Guest guest(Stage::waiting, std::move(options));
  auto control = guest.control();
  EXPECT_EQ(control->hello(soon()).stage, Hello::Stage::waiting);
  EXPECT_EQ(error_of([&] { control->exec(shell("true"), soon()); })->code(), ErrorCode::wrong_state);
  EXPECT_EQ(error_of([&] { control->refs("", milliseconds(10), {}, soon()); })->code(), ErrorCode::wrong_state);
  control->freeze("nonce-1", soon());
  EXPECT_EQ(read_file(root / "run/agentvm/template"), "nonce-1\n");
  control->identify(sample_identity(), soon());
  EXPECT_EQ(adopted, 1);
  EXPECT_EQ(error_of([&] { control->freeze("nonce-2", soon()); })->code(), ErrorCode::wrong_state);
  control->identify(sample_identity(), soon());
  EXPECT_EQ(adopted, 1);
}

TEST(Agent, HalfAnIdentityIsNotMadeWhole) {
  test::TemporaryFolder root;
  ServerOptions options;
  options.root = root.path();
  std::atomic<int> tries = 0;
  options.adopt = [&](const Identity&) -> std::string {
    ++tries;
    throw Error(ErrorCode::operation_failed, "no room");
  };
  Guest guest(Stage::waiting, std::move(options));
  auto control = guest.control();
  control->hello(soon());
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(error_of([&] { control->identify(sample_identity(), soon()); }));
  EXPECT_EQ(tries, 1);
  EXPECT_EQ(error_of([&] { control->exec(shell("true"), soon()); })->code(), ErrorCode::wrong_state);
}

TEST(Agent, AnImageThatStartsSshdByItselfIsNoTemplate) {
  test::TemporaryFolder root;
  fs::create_directories(root / "etc/ssh");
  write_file_atomic(root / "etc/ssh/ssh_host_ed25519_key", "all the same");
  ServerOptions options;
  options.root = root.path();
  Guest guest(Stage::waiting, std::move(options));
  auto control = guest.control();
  control->hello(soon());
  EXPECT_EQ(error_of([&] { control->freeze("nonce", soon()); })->code(), ErrorCode::operation_failed);
  EXPECT_FALSE(fs::exists(root / "run/agentvm/template"));
}

TEST(Agent, AFailedIdentityIsAnErrorAndEndsTheServer) {
  ServerOptions options;
  options.apply = [](const Identity&) {
    throw Error(ErrorCode::operation_failed, "no such tag").while_doing("preparing /workspace");
  };
  Guest guest(Stage::init, std::move(options));
  auto control = guest.control();
  control->hello(soon());
  const auto error = error_of([&] { control->identify(sample_identity(), soon()); });
  ASSERT_TRUE(error);
  EXPECT_THAT(error->what(), HasSubstr("preparing /workspace: no such tag"));
  const auto limit = soon();
  while (guest.end != Server::End::identity_failed && !limit.expired()) system_clock().sleep(milliseconds(5));
  EXPECT_EQ(guest.end, Server::End::identity_failed);
}

TEST(Agent, RefusesAnIdentityThatIsNotWellFormed) {
  Guest guest(Stage::init);
  auto control = guest.control();
  control->hello(soon());
  auto bad = sample_identity();
  bad.files[0].path = "/etc/../../x";
  EXPECT_THAT(error_of([&] { control->identify(bad, soon()); })->what(), HasSubstr("files"));
  bad = sample_identity();
  bad.hostname = "a b";
  EXPECT_THAT(error_of([&] { control->identify(bad, soon()); })->what(), HasSubstr("hostname"));
  control->identify(sample_identity(), soon());  // nothing was applied before, so this is the first
}

TEST(Agent, RunsProgramsWithStreamsCodesAndSignals) {
  Guest guest(Stage::running);
  auto control = guest.control();
  control->hello(soon());
  auto spec = shell("cat; echo err >&2; echo $MARK; pwd; exit 3");
  spec.input = std::string(300'000, 'i') + "\n";
  spec.env["MARK"] = "here";
  const auto result = control->exec(spec, soon());
  EXPECT_EQ(result.code, 3);
  EXPECT_EQ(result.out, spec.input + "here\n/\n");
  EXPECT_EQ(result.err, "err\n");
  EXPECT_EQ(control->exec(shell("kill -9 $$"), soon()).signal, 9);
  EXPECT_EQ(control->exec(shell("cat"), soon()).code, 0) << "without input, standard input is empty";
  EXPECT_EQ(error_of([&] { control->exec({.argv = {"no-such-program"}, .cwd = "/", .user = me()}, soon()); })->code(),
            ErrorCode::host_lacks);
  EXPECT_EQ(error_of([&] { control->exec({.argv = {"true"}, .user = "nobody-here"}, soon()); })->code(),
            ErrorCode::not_found);
}

TEST(Agent, MovesMoreThanTheWindowAndCutsAtTheLimit) {
  Guest guest(Stage::running);
  auto control = guest.control();
  control->hello(soon());
  const auto result =
      control->exec(shell("head -c 5000000 /dev/zero; head -c 3000000 /dev/zero >&2"), soon(), 1'000'000);
  EXPECT_EQ(result.out.size(), 1'000'000U);
  EXPECT_EQ(result.err.size(), 1'000'000U);
  EXPECT_TRUE(result.truncated);
  EXPECT_EQ(result.code, 0);
}

TEST(Agent, ADeadlineKillsTheProgramAndItsChildren) {
  Guest guest(Stage::running);
  test::TemporaryFolder folder;
  auto control = guest.control();
  control->hello(soon());
  const auto pid_file = (folder / "pid").string();
  const auto error = error_of([&] {
    control->exec(shell("sleep 1000 & echo $! > " + pid_file + "; wait"), Deadline::after(milliseconds(700)));
  });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::timed_out);
  const auto pid = static_cast<pid_t>(std::stoi(read_file(pid_file)));
  const auto limit = soon();
  while (::kill(pid, 0) == 0 && process_start_ticks(pid) != 0 && !limit.expired())
    system_clock().sleep(milliseconds(10));
  const auto state = read_file_if_exists("/proc/" + std::to_string(pid) + "/stat").value_or(") Z");
  EXPECT_EQ(state[state.rfind(')') + 2], 'Z');
  EXPECT_EQ(control->exec(shell("true"), soon()).code, 0) << "the connection is none the worse";
}

TEST(Agent, ADaemonThatKeepsThePipesDoesNotHoldTheAnswer) {
  Guest guest(Stage::running);
  auto control = guest.control();
  control->hello(soon());
  const auto begin = std::chrono::steady_clock::now();
  const auto result = control->exec(shell("setsid sleep 5 & echo started"), soon());
  EXPECT_EQ(result.out, "started\n");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(4));
}

TEST(Agent, LimitsProgramsAtOnce) {
  Guest guest(Stage::running);
  auto control = guest.control();
  control->hello(soon());
  std::vector<std::thread> threads;
  std::atomic<int> refused = 0, ran = 0;
  for (std::size_t i = 0; i < exec_limit + 4; ++i)
    threads.emplace_back([&] {
      const auto error = error_of([&] { control->exec(shell("sleep 3"), soon()); });
      ++(error ? refused : ran);
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(refused, 4);
  EXPECT_EQ(ran, static_cast<int>(exec_limit));
}

TEST(Agent, WaitsForWhatIsNotReadyAndSaysSo) {
  test::TemporaryFolder root;
  fs::create_directories(root / "proc/net");
  const auto listener = root / "proc/net/tcp6";
  ServerOptions options;
  options.root = root.path();
  Guest guest(Stage::running, std::move(options));
  auto control = guest.control();
  control->hello(soon());
  EXPECT_EQ(error_of([&] { control->wait_until("ssh", Deadline::after(milliseconds(400))); })->code(),
            ErrorCode::timed_out);
  std::thread later([&] {
    system_clock().sleep(milliseconds(200));
    write_file_atomic(listener,
                      "  sl  local_address\n   0: 00000000000000000000000000000000:0016 "
                      "00000000000000000000000000000000:0000 0A 0\n");
  });
  control->wait_until("ssh", soon());
  later.join();
  EXPECT_EQ(error_of([&] { control->wait_until("lunch", soon()); })->code(), ErrorCode::usage);
}

TEST(Agent, SetsTimeAndPowersOff) {
  std::atomic<std::int64_t> set = 0;
  ServerOptions options;
  options.set_time = [&](std::int64_t unix_ns) { set = unix_ns; };
  Guest guest(Stage::running, std::move(options));
  auto control = guest.control();
  control->hello(soon());
  control->set_time(123, soon());
  EXPECT_EQ(set, 123);
  EXPECT_GT(control->time(soon()), 0);
  control->shutdown(milliseconds(7'000), soon());
  const auto limit = soon();
  while (guest.powered_off == 0 && !limit.expired()) system_clock().sleep(milliseconds(5));
  EXPECT_EQ(guest.powered_off, 1);
  EXPECT_EQ(guest.patience_ms, 7'000);
}

TEST(Agent, AHostThatDiedInTheMiddleOfAFrameDoesNotBlockTheNext) {
  Guest guest(Stage::running);
  // The same port: what a killed manager left behind is a frame that claims 200000 bytes and has 100.
  const auto cut = encode({FrameType::request, 0, 5, std::string(200'000, ' ')}).substr(0, 100);
  write_all(guest.host.get(), cut, soon());
  auto control = guest.control();
  EXPECT_EQ(control->hello(soon()).stage, Hello::Stage::running);
  EXPECT_EQ(control->exec(shell("echo again"), soon()).out, "again\n");
}

TEST(Agent, ANewSessionEndsThePrograms) {
  Guest guest(Stage::running);
  test::TemporaryFolder folder;
  const auto say = [&](const Json& json, std::uint32_t id) {
    write_all(guest.host.get(), encode({FrameType::request, 0, id, dump_json(json)}), soon());
  };
  say({{"op", "hello"}, {"nonce", "first"}}, 1);
  say({{"op", "exec"},
       {"argv", {"/bin/sh", "-c", "echo $$ > " + (folder / "pid").string() + "; exec sleep 1000"}},
       {"cwd", "/"},
       {"user", me()}},
      2);
  const auto limit = soon();
  while (read_file_if_exists(folder / "pid").value_or("").empty() && !limit.expired())
    system_clock().sleep(milliseconds(10));
  const auto pid = static_cast<pid_t>(std::stoi(read_file(folder / "pid")));
  auto control = guest.control();
  control->hello(soon());
  while (process_start_ticks(pid) != 0 && !limit.expired()) system_clock().sleep(milliseconds(10));
  EXPECT_EQ(process_start_ticks(pid), 0ULL) << "killed and reaped";
}

TEST(Agent, RequestsBeforeHelloAndNonsenseAreRefusedNotFatal) {
  Guest guest(Stage::running);
  write_all(guest.host.get(),
            encode({FrameType::request, 0, 9, "{\"op\":\"sync\"}"}) + "noise" +
                encode({FrameType::request, 0, 10, "[["}) + encode({FrameType::response, 0, 1, "{}"}) +
                encode({FrameType::window, 0, 4, "abc"}),
            soon());
  auto control = guest.control();
  control->hello(soon());
  EXPECT_TRUE(control->alive());
}

// --- a host client whose guest is hostile

TEST(Control, AGuestThatIsSilentIsATimeoutInTime) {
  auto pair = make_socketpair();
  Control control(std::move(pair.first));
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(error_of([&] { control.hello(Deadline::after(milliseconds(300))); })->code(), ErrorCode::timed_out);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(3));
}

TEST(Control, AFloodEndsTheConnectionWithAReason) {
  auto pair = make_socketpair();
  const int guest = pair.second.get();
  Control control(std::move(pair.first));
  std::promise<std::string> reason;
  control.on_lost([&](const std::string& why) { reason.set_value(why); });
  std::size_t sent = 0;
  std::thread flood([&] {
    const std::string noise(65536, 'A');
    set_nonblocking(guest, true);
    for (const auto limit = soon(); !limit.expired();) {
      const ssize_t count = ::send(guest, noise.data(), noise.size(), MSG_NOSIGNAL);
      if (count > 0)
        sent += static_cast<std::size_t>(count);
      else if (errno != EAGAIN)
        return;
    }
  });
  EXPECT_EQ(error_of([&] { control.hello(soon()); })->code(), ErrorCode::operation_failed);
  flood.join();
  EXPECT_LT(sent, 16u << 20) << "the guest was cut off, not listened to";
  EXPECT_THAT(reason.get_future().get(), HasSubstr("no answer to hello"));
  EXPECT_FALSE(control.alive());
  EXPECT_THAT(error_of([&] { control.sync(soon()); })->what(), HasSubstr("lost"));
}

TEST(Control, ALostGuestWakesWhoeverWaits) {
  auto guest = std::make_unique<Guest>(Stage::running);
  auto control = guest->control();
  control->hello(soon());
  std::thread killer([&] {
    system_clock().sleep(milliseconds(300));
    guest.reset();
  });
  const auto error = error_of([&] { control->exec(shell("sleep 100"), Deadline::after(milliseconds(60'000))); });
  killer.join();
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::operation_failed);
  std::string late;
  const auto limit = soon();
  while (late.empty() && !limit.expired()) {
    control->on_lost([&](const std::string& why) { late = why; });
    system_clock().sleep(milliseconds(5));
  }
  EXPECT_THAT(late, HasSubstr("closed"));
}

}  // namespace
}  // namespace agentvm::guest
