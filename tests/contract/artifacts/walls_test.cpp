// The walls around the child that writes build products, tried from inside: each forbidden step ends its process.
#include "sync/artifacts/child/walls.hpp"

#include <csignal>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/openat2.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sync/artifacts/tree_writer.hpp"
#include "tests/support/temporary_folder.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::sync {
namespace {

struct End {
  int code = -1, signal = 0;
};

class Walls : public testing::Test {
 protected:
  Walls() {
    fs::create_directories(dir / "tree");
    write_file_atomic(dir / "secret", "secret");
    folder = UniqueFd(::open((dir / "tree").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    outside = UniqueFd(::open(dir.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  template <class Step>
  End inside(Step step) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      int code = 99;
      try {
        build_walls({1u << 20, 100}, folder.get());
        code = step();
      } catch (const Error&) {
        code = 98;
      }
      ::_exit(code);
    }
    int status = 0;
    ::waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? End{-1, WTERMSIG(status)} : End{WEXITSTATUS(status), 0};
  }
  template <class Step>
  void expect_killed(Step step) {
    EXPECT_EQ(inside([&] { return step() == -12345 ? 1 : 0; }).signal, SIGSYS);
  }

  const test::TemporaryFolder dir;
  UniqueFd folder, outside;
};

TEST_F(Walls, TheWorkItselfGoesOn) {
  const auto end = inside([&] {
    TreeWriter tree(folder.get());
    tree.begin(true);
    tree.write("text");
    tree.hole(100);
    if (tree.commit("a/b/file", 1)) return 1;
    if (tree.link("a/link", "b/file")) return 2;
    return tree.look("a/b/file").size == 104 ? 0 : 3;
  });
  EXPECT_EQ(end.code, 0) << end.signal;
  EXPECT_TRUE(fs::exists(dir / "tree/a/link"));
}

TEST_F(Walls, NoProgramNoSocketNoPathOfTheRoot) {
  expect_killed([] { return ::execl("/bin/true", "true", nullptr); });
  expect_killed([] { return ::fork(); });
  expect_killed([] { return ::socket(AF_UNIX, SOCK_STREAM, 0); });
  expect_killed([] { return ::open("/etc/passwd", O_RDONLY); });
  expect_killed([] { return ::mkdir("/tmp/x", 0700); });
  expect_killed([] { return ::chdir("/"); });
  expect_killed([&] { return ::mknodat(folder.get(), "pipe", S_IFIFO | 0600, 0); });
  expect_killed([&] { return ::linkat(folder.get(), "a", folder.get(), "b", 0); });
  expect_killed([&] { return ::fchmodat(folder.get(), "a", 04755, 0); });
  expect_killed([&] { return ::fchmod(folder.get(), 04755); });
  expect_killed([&] { return ::fchownat(folder.get(), "a", 0, 0, 0); });
  expect_killed([] { return ::kill(::getppid(), 0); });
}

TEST_F(Walls, NothingOutsideOfTheFolderWhereLandlockIs) {
  if (::syscall(SYS_landlock_create_ruleset, nullptr, 0, 1) < 2) GTEST_SKIP() << "this kernel has no Landlock";
  const auto end = inside([&] {
    open_how how{};
    how.flags = O_RDONLY;
    return static_cast<int>(::syscall(SYS_openat2, outside.get(), "secret", &how, sizeof how)) < 0 && errno == EACCES
               ? 0
               : 1;
  });
  EXPECT_EQ(end.code, 0);
  EXPECT_EQ(inside([&] { return ::unlinkat(outside.get(), "secret", 0) < 0 && errno == EACCES ? 0 : 1; }).code, 0);
  EXPECT_EQ(inside([&] { return ::symlinkat("x", outside.get(), "link") < 0 && errno == EACCES ? 0 : 1; }).code, 0);
  EXPECT_EQ(read_file(dir / "secret"), "secret");
}

TEST_F(Walls, AFileEndsAtTheLimit) {
  const auto end = inside([&] {
    ::signal(SIGXFSZ, SIG_IGN);
    TreeWriter tree(folder.get());
    tree.begin(false);
    for (int i = 0; i < 100; ++i) tree.write(std::string(64u << 10, 'x'));
    return 0;
  });
  EXPECT_EQ(end.code, 98);
}

}  // namespace
}  // namespace agentvm::sync
