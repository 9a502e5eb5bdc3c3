// start, sync, stop and destroy with the real operations, on a hypervisor in memory whose Nth call fails, for every N:
// what is left is a clear state and nothing that runs; the same command, or a manager that comes after, heals it.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cli/manager/ops/freeze.hpp"
#include "cli/manager/ops/running.hpp"
#include "cli/manager/ops/start.hpp"
#include "cli/manager/ops/status.hpp"
#include "cli/manager/ops/stop_op.hpp"
#include "cli/manager/ops/sync_op.hpp"
#include "tests/contract/sync/git_fixture.hpp"
#include "tests/fault/lifecycle/fake_machines.hpp"
#include "tests/support/failing_calls.hpp"
#include "tests/support/tier.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::manager {
namespace {

using test::FakeMachines;
using test::Repo;

class TestCall : public CallContext {
 public:
  void progress(const ProgressEvent&) override {}
  void warning(std::string text) override {
    const std::lock_guard lock(mutex_);
    warnings_.push_back(std::move(text));
  }
  void send_streams(std::vector<UniqueFd>) override {}
  void ended(const Json&) override {}
  std::stop_token cancelled() const override { return stop_.get_token(); }
  void on_message(std::function<void(const Json&)>) override {}
  PeerCredentials peer() const override { return {}; }
  Progress progress_function() override { return no_progress(); }

 private:
  std::stop_source stop_;
  std::mutex mutex_;
  std::vector<std::string> warnings_;
};

const SandboxName name = SandboxName::parse("box");
constexpr unsigned calls_limit = 60;
constexpr const char* decoy = "the decoy aws was sent";

class LifecycleFault : public testing::Test {
 protected:
  LifecycleFault() : project(Repo::init(dir / "project")) {
    if (::geteuid() != 0) return;
    project.commit("a.txt", "one\n", "first");
    paths.config_file = dir / "config.yaml";
    paths.state = dir / "state";
    paths.data = dir / "data";
    paths.runtime = dir / "run";
    paths.libexec = AGENTVM_TEST_LIBEXEC;
    for (const auto& folder : {paths.state, paths.data, paths.runtime, paths.images()}) ensure_private_dir(folder);
    write_file_atomic(paths.config_file, "proxy: {enable: false}\n");
    make_image();
    manage();
  }
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "giving a fake guest a root folder of its own needs root";
  }

  void make_image() {
    Image image;
    image.digest = std::string(64, 'a');
    image.name = "fake";
    image.suite = "none";
    image.request = "none";
    image.created = 1'700'000'000;
    const auto folder = paths.images() / image.digest;
    ensure_private_dir(folder);
    for (const char* file : {"kernel", "initrd", "root.raw"})
      write_file_atomic(folder / file, std::string(1u << 16, '\0'));
    write_file_atomic(folder / "image.json", dump_json(image.to_json()));
  }

  /// A manager that comes up, after one that was killed or from nothing.
  void manage() {
    core.reset();
    core = std::make_unique<Core>(paths, [this](const std::string&, Deadline) { return machines; });
    reconcile(*core);
  }

  Json start() {
    TestCall call;
    ClientSetting setting;
    setting.cwd = setting.path = project.path();
    setting.flags = {{"name", name.str()},   {"image", "fake"},   {"workspace.mode", "disk"},
                     {"accelerator", "tcg"}, {"nested", "false"}, {"memory", "256M"}};
    setting.environment = {{"HOME", dir.path()}, {"PATH", std::getenv("PATH")}};
    return start_sandbox(*core, call, setting);
  }
  Json stop() {
    TestCall call;
    return stop_sandbox(*core, call, {{"name", name.str()}});
  }
  Json destroy() {
    TestCall call;
    return destroy_sandbox(*core, call, {{"name", name.str()}});
  }
  Json sync() {
    TestCall call;
    return sync_sandbox(*core, call, {{"name", name.str()}});
  }

  /// Commits in the guest, as its user.
  std::string commit_inside(const std::string& text) {
    const auto live = core->live(name);
    const auto session = live->session(Session::control, Deadline::after(milliseconds(20'000)));
    const auto exec = session->exec({.argv = {"sh", "-c",
                                              "cd /workspace && echo " + text +
                                                  " >b.txt && git add b.txt && git -c user.name=A "
                                                  "-c user.email=a@b commit -qm x && git rev-parse HEAD"}},
                                    Deadline::after(milliseconds(20'000)));
    std::string said(41, '\0');
    const auto io = exec->take_io();
    std::size_t size = 0;
    while (const auto count =
               read_some(io.get(), said.data() + size, said.size() - size, Deadline::after(milliseconds(20'000))))
      if ((size += count) == said.size()) break;
    return said.substr(0, 40);
  }

  std::optional<SandboxState> state() {
    const auto record = core->store().find(name);
    return record ? std::optional(record->state) : std::nullopt;
  }
  /// Whatever is recorded as not running has no machine, once what is still to do is done.
  void expect_settled(const std::string& what) {
    const auto record = core->store().find(name);
    const bool runs = record && record->state == SandboxState::running;
    if (record && !record->teardown.empty()) return;  // it says so, and the next one goes on
    EXPECT_EQ(machines->count(), runs ? 1u : 0u) << what << ": " << (record ? to_string(record->state) : "no record");
  }

  /// Lets the Nth call fail in `operation`, for every N, until one run has none to fail. `heal` after each.
  void sweep(const char* what, const std::function<void()>& prepare, const std::function<void()>& operation,
             const std::function<void()>& heal) {
    unsigned failures = 0;
    for (unsigned nth = 1;; ++nth) {
      ASSERT_LT(nth, calls_limit) << what;
      prepare();
      const auto before = machines->calls().size();
      machines->fail_call(nth);
      std::string problem;
      try {
        operation();
      } catch (const Error& error) {
        problem = error.what();
        ++failures;
        EXPECT_FALSE(problem.empty());
      }
      machines->fail_call(0);
      const auto calls = machines->calls();
      const auto said = fmt::format("{}, call {}{}: {}", what, nth,
                                    before + nth <= calls.size() ? " (" + calls[before + nth - 1] + ")" : "", problem);
      SCOPED_TRACE(said);
      expect_settled(said);
      heal();
      if (calls.size() < before + nth) break;
    }
    EXPECT_GT(failures, 0u) << "nothing failed: the sweep shows nothing";
  }

  /// Lets changes of files fail in `operation`: at so many places, and from there on or once.
  void sweep_files(const char* what, int problem, bool and_after, const std::function<void()>& prepare,
                   const std::function<void()>& operation, const std::function<void()>& heal) {
    const int samples = test::full_tier() ? 1'000 : 3;
    prepare();
    test::fail_call(0, 0);
    operation();
    const auto steps = static_cast<int>(test::stop_failing().size());
    ASSERT_GT(steps, 10) << "the calls are not seen";
    heal();
    for (int nth = 1; nth <= steps; nth += std::max(1, steps / samples)) {
      prepare();
      test::fail_call(nth, problem, and_after);
      std::string said;
      try {
        operation();
      } catch (const Error& error) {
        said = error.what();
      }
      test::stop_failing();
      SCOPED_TRACE(fmt::format("{}: change {} of {}{} is refused ({}): {} -> {}", what, nth, steps,
                               and_after ? " and all after it" : "", errno_text(problem), said.empty() ? "done" : said,
                               state() ? to_string(*state()) : "no record"));
      heal();
    }
  }

  void start_from_nothing() {
    if (state()) destroy();
    EXPECT_EQ(machines->count(), 0u);
  }
  void be_running() {
    if (state() != SandboxState::running) start();
  }
  /// The loop that a user would go through.
  void expect_all_works() {
    start();
    ASSERT_EQ(state(), SandboxState::running);
    EXPECT_EQ(machines->count(), 1u);
    const auto tip = commit_inside("again" + std::to_string(machines->calls().size()));
    EXPECT_EQ(sync().at("new_tip"), tip);
    EXPECT_EQ(project.tip(), tip);
  }

  static egress::Decision decoy_of(const SandboxName& sandbox) {
    egress::Decision decision;
    decision.sandbox = sandbox.str();
    decision.reason = decoy;
    return decision;
  }
  DomainState machine_state() {
    const auto there = machines->list(Deadline::never());
    return there.empty() ? DomainState::shut_off : there.front().state;
  }
  static bool becomes(const std::function<bool()>& so) {
    const auto deadline = Deadline::after(milliseconds(20'000));
    while (!so() && !deadline.expired()) system_clock().sleep(milliseconds(20));
    return so();
  }

  test::TempDir dir;
  Repo project;
  Paths paths;
  std::shared_ptr<FakeMachines> machines = std::make_shared<FakeMachines>(AGENTVM_TEST_FAKE_GUEST);
  std::unique_ptr<Core> core;
};

TEST_F(LifecycleFault, TheWholeLoop) {
  expect_all_works();
  EXPECT_EQ(stop().at("state"), "stopped");
  EXPECT_EQ(machines->count(), 0u);
  expect_all_works();
  manage();  // a manager that comes after finds it running
  EXPECT_EQ(state(), SandboxState::running);
  expect_all_works();
  destroy();
  EXPECT_FALSE(state());
  EXPECT_EQ(machines->count(), 0u);
}

TEST_F(LifecycleFault, StartWhoseNthCallFails) {
  sweep(
      "start", [this] { start_from_nothing(); }, [this] { start(); }, [this] { expect_all_works(); });
}

TEST_F(LifecycleFault, StartWhoseNthCallFailsBeforeAManagerThatComesAfter) {
  sweep(
      "start", [this] { start_from_nothing(); }, [this] { start(); },
      [this] {
        manage();
        expect_settled("after the next manager");
        expect_all_works();
      });
}

TEST_F(LifecycleFault, StopWhoseNthCallFails) {
  sweep(
      "stop", [this] { be_running(); }, [this] { stop(); },
      [this] {
        if (state() == SandboxState::failed) {
          stop();
          EXPECT_EQ(state(), SandboxState::stopped);
          EXPECT_EQ(machines->count(), 0u);
        }
        expect_all_works();
      });
}

/// A hypervisor that cannot say once whether the machine is gone does not make a stop fail.
TEST_F(LifecycleFault, StopGoesOnAfterAHiccup) {
  for (const unsigned nth : {1u, 2u, 3u}) {
    be_running();
    machines->fail_call(nth);
    EXPECT_EQ(stop().at("state"), "stopped") << nth;
    machines->fail_call(0);
    const auto calls = machines->calls();
    EXPECT_TRUE(std::none_of(calls.begin(), calls.end(), [](const auto& call) { return call.starts_with("stop "); }))
        << "the guest was not left to power off";
  }
}

TEST_F(LifecycleFault, DestroyWhoseNthCallFails) {
  sweep(
      "destroy", [this] { be_running(); }, [this] { destroy(); },
      [this] {
        if (state()) destroy();
        EXPECT_FALSE(state());
        EXPECT_EQ(machines->count(), 0u);
      });
}

/// The disk is full for a while; the same manager goes on when there is room again.
TEST_F(LifecycleFault, StartOnAFullDisk) {
  sweep_files(
      "start", ENOSPC, true, [this] { start_from_nothing(); }, [this] { start(); }, [this] { expect_all_works(); });
}

TEST_F(LifecycleFault, StartWhereOneChangeFails) {
  sweep_files(
      "start", EIO, false, [this] { start_from_nothing(); }, [this] { start(); }, [this] { expect_all_works(); });
}

TEST_F(LifecycleFault, StopOnAFullDisk) {
  sweep_files(
      "stop", ENOSPC, true, [this] { be_running(); }, [this] { stop(); },
      [this] {
        if (state() != SandboxState::stopped) stop();
        EXPECT_EQ(state(), SandboxState::stopped);
        EXPECT_EQ(machines->count(), 0u);
        expect_all_works();
      });
}

TEST_F(LifecycleFault, DestroyOnAFullDisk) {
  sweep_files(
      "destroy", ENOSPC, true, [this] { be_running(); }, [this] { destroy(); },
      [this] {
        if (state()) destroy();
        EXPECT_FALSE(state());
        EXPECT_EQ(machines->count(), 0u);
      });
}

/// As after kill -9: nothing is recorded from some step on, and another manager finds what is there.
TEST_F(LifecycleFault, AManagerThatIsGoneInTheMiddle) {
  const auto next_manager = [this] {
    manage();
    expect_settled("after the next manager");
    expect_all_works();
  };
  sweep_files(
      "start", EIO, true, [this] { start_from_nothing(); }, [this] { start(); }, next_manager);
  sweep_files(
      "stop", EIO, true, [this] { be_running(); }, [this] { stop(); }, next_manager);
  sweep_files(
      "destroy", EIO, true, [this] { be_running(); }, [this] { destroy(); },
      [&] {
        next_manager();
        destroy();
        EXPECT_EQ(machines->count(), 0u);
      });
}

/// So many descriptors are left, and no more.
TEST_F(LifecycleFault, StartWithFewDescriptors) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  unsigned failures = 0;
  for (unsigned left = 0; left < 40; left += 3) {
    start_from_nothing();
    const auto used = std::distance(fs::directory_iterator("/proc/self/fd"), {});
    auto few = before;
    few.rlim_cur = static_cast<rlim_t>(used) + left;
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
    std::string said;
    try {
      start();
    } catch (const Error& error) {
      said = error.what();
      ++failures;
    }
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
    SCOPED_TRACE(fmt::format("{} left: {}", left, said));
    expect_all_works();
  }
  EXPECT_GT(failures, 0u);
}

TEST_F(LifecycleFault, SyncWhoseNthCallFails) {
  be_running();
  std::string tip;
  sweep(
      "sync and stop",
      [&] {
        be_running();
        tip = commit_inside(std::to_string(machines->calls().size()));
      },
      [this] {
        sync();
        stop();
      },
      [&] {
        be_running();
        sync();
        EXPECT_TRUE(project.git_ok({"merge-base", "--is-ancestor", tip, "HEAD"}));
      });
}

/// A decoy stops the machine whatever the host's disk says; that it is frozen is recorded once there is room.
TEST_F(LifecycleFault, ADecoyOnAFullDisk) {
  be_running();
  test::fail_call(1, ENOSPC, true);
  freeze_for_decoy(*core, decoy_of(name));
  EXPECT_TRUE(becomes([&] { return machine_state() == DomainState::paused; }));
  EXPECT_EQ(core->store().get(name).frozen, "");
  test::stop_failing();
  EXPECT_TRUE(becomes([&] { return state() == SandboxState::paused && core->store().get(name).frozen == decoy; }));
}

TEST_F(LifecycleFault, ADecoyWhoseMachineDoesNotStopAtOnce) {
  be_running();
  machines->fail_call(1);
  freeze_for_decoy(*core, decoy_of(name));
  EXPECT_TRUE(becomes([&] { return core->store().get(name).frozen == decoy; }));
  EXPECT_TRUE(becomes([&] { return state() == SandboxState::paused; }));
  EXPECT_EQ(machine_state(), DomainState::paused);
}

}  // namespace
}  // namespace agentvm::manager
