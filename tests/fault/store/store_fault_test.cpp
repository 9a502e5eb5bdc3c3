// Every file operation of the store fails once, in turn; every kind of full disk; and writers are killed at random
// moments. After each, the store must read as before or as after, nothing in between, and the same call must work when
// made again.

#include <cerrno>
#include <csignal>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/failing_calls.hpp"
#include "tests/support/records.hpp"
#include "tests/support/temporary_folder.hpp"
#include "vmm/store.hpp"

namespace agentvm {
namespace {

using test::fail_call;
using test::full_record;
using test::stop_failing;
using testing::Contains;
using testing::IsEmpty;

struct StoreFault : testing::Test {
  test::TemporaryFolder state;
  Store store{state.path()};
  SandboxName demo = SandboxName::parse("demo");

  /// Runs `action` with its nth change failing, for every n that it reaches, and calls `check(failed)` after each.
  /// `and_after`: the disk stays bad.
  void sweep_failures(int error_number, bool and_after, const std::function<void()>& prepare,
                      const std::function<void()>& action, const std::function<void(bool)>& check) {
    prepare();
    fail_call(0, 0);
    action();
    const auto steps = stop_failing();
    ASSERT_GE(steps.size(), 4U) << "the calls are no longer seen";
    for (int n = 1; n <= static_cast<int>(steps.size()); ++n) {
      SCOPED_TRACE(fmt::format("call {} of {} ({}) fails with {}", n, steps.size(),
                               steps[static_cast<std::size_t>(n - 1)], errno_text(error_number)));
      prepare();
      bool failed = false;
      fail_call(n, error_number, and_after);
      try {
        action();
      } catch (const Error&) {
        failed = true;
      }
      stop_failing();
      EXPECT_TRUE(failed);
      check(failed);
    }
  }
};

TEST_F(StoreFault, AnUpdateThatFailsLeavesAWholeRecord) {
  for (const auto& [error_number, and_after] :
       {std::pair{EIO, false}, {ENOSPC, false}, {ENOSPC, true}, {EDQUOT, true}}) {
    sweep_failures(
        error_number, and_after,
        [&] {
          store.remove(demo);
          store.create(full_record("demo"));
        },
        [&] { store.update(demo, [](SandboxRecord& record) { record.ssh_port = 5; }); },
        [&](bool) {
          const auto port = store.get(demo).ssh_port;
          // The last step is the folder's fsync: the new record is in place then, whole.
          EXPECT_THAT(port, testing::AnyOf(40022, 5));
          EXPECT_EQ(store.update(demo, [](SandboxRecord& record) { record.ssh_port = 6; }).ssh_port, 6)
              << "a retry heals";
          store.sweep();
          const auto files = std::distance(fs::directory_iterator(store.folder(demo)), {});
          EXPECT_EQ(files, 1) << "sweep leaves the record alone";
        });
  }
}

TEST_F(StoreFault, AFailureBeforeTheRenameKeepsTheOldBytes) {
  store.create(full_record("demo"));
  const auto before = read_file(store.folder(demo) / sandbox_files::record);
  fail_call(0, 0);
  store.update(demo, [](SandboxRecord&) {});
  const auto steps = stop_failing();
  ASSERT_THAT(steps, Contains("rename"));
  const auto rename_at = static_cast<int>(std::find(steps.begin(), steps.end(), "rename") - steps.begin()) + 1;
  for (int n = 1; n <= rename_at; ++n) {
    fail_call(n, ENOSPC);
    EXPECT_TRUE(test::error_of([&] { store.update(demo, [](SandboxRecord& record) { record.ssh_port = 5; }); }))
        << steps[static_cast<std::size_t>(n - 1)];
    stop_failing();
    EXPECT_EQ(read_file(store.folder(demo) / sandbox_files::record), before);
  }
}

TEST_F(StoreFault, ACreationThatFailsLeavesAllOrNothing) {
  for (const bool and_after : {false, true})
    sweep_failures(
        ENOSPC, and_after,
        [&] {
          if (fs::exists(state / "sandboxes")) remove_tree(state / "sandboxes");
        },
        [&] { store.create(full_record("demo")); },
        [&](bool) {
          EXPECT_THAT(store.list().broken, IsEmpty());
          for (const auto& record : store.list().records) EXPECT_EQ(record.ssh_port, 40022);
          store.sweep();
          store.create(full_record("demo"));
          EXPECT_THAT(store.list().broken, IsEmpty());
        });
}

TEST_F(StoreFault, ARemovalThatFailsLeavesAllOrNothing) {
  sweep_failures(
      EIO, false,
      [&] {
        store.sweep();
        if (!store.find(demo)) store.create(full_record("demo"));
        fs::create_directories(store.folder(demo) / "workspace/deep");
        write_file_atomic(store.folder(demo) / "workspace/deep/file", "x");
      },
      [&] { store.remove(demo); },
      [&](bool) {
        EXPECT_THAT(store.list().broken, IsEmpty()) << "no half sandbox is listed";
        store.remove(demo);
        EXPECT_FALSE(store.find(demo));
        store.sweep();
        EXPECT_TRUE(fs::is_empty(state / "sandboxes"));
      });
}

// A real limit of the kernel instead of an injected error: no file may grow past half a record.
TEST_F(StoreFault, ARealSizeLimitKeepsTheOldRecord) {
  const auto created = store.create(full_record("demo"));
  const auto before = read_file(store.folder(demo) / sandbox_files::record);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{before.size() / 2, before.size() / 2};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const bool failed =
        test::error_of([&] { store.update(demo, [](SandboxRecord& record) { record.ssh_port = 5; }); }).has_value();
    ::_exit(failed ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0) << "the update was told as done";
  EXPECT_EQ(read_file(store.folder(demo) / sandbox_files::record), before);
  EXPECT_EQ(store.get(demo).id, created.id);
}

TEST_F(StoreFault, KilledWritersNeverLeaveAHalfRecord) {
  store.create(full_record("demo"));
  constexpr int rounds = 30;
  int progress = 0;
  for (int round = 0; round < rounds; ++round) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      for (int i = 0;; ++i) {
        store.update(demo, [&](SandboxRecord& record) {
          record.ssh_port = static_cast<std::uint16_t>(i);
          record.message.assign(static_cast<std::size_t>(i % 50) * 400,
                                'x');  // of very different lengths, so that a mixture would not parse
          record.warnings = {std::to_string(record.message.size())};
        });
      }
    }
    ::usleep(static_cast<useconds_t>(2000 + 1700 * (round % 11)));
    ::kill(child, SIGKILL);
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    const auto record = store.get(demo);
    if (record.warnings != std::vector<std::string>{"memory cut"}) {
      ++progress;
      EXPECT_EQ(record.warnings, std::vector<std::string>{std::to_string(record.message.size())});
    }
    EXPECT_NO_THROW(store.update(
        demo, [](SandboxRecord&) {}, Deadline::after(std::chrono::seconds(1))))
        << "the lock died with its holder";
  }
  EXPECT_GT(progress, 0) << "no writer ever got through: the test proved nothing";
  store.sweep();
  EXPECT_EQ(std::distance(fs::directory_iterator(store.folder(demo)), {}), 1);
}

}  // namespace
}  // namespace agentvm
