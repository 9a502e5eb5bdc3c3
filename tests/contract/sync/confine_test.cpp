// The walls around the child, tried from inside: each forbidden step in a process of its own that ends as it must.
#include "sync/git/child/confine.hpp"

#include <csignal>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/contract/sync/git_fixture.hpp"
#include "vmm/base/error.hpp"

namespace agentvm::git {
namespace {

struct End {
  int code = -1, signal = 0;
};

class Confine : public testing::Test {
 protected:
  Confine() {
    std::filesystem::create_directories(dir / "host");
    std::filesystem::create_directories(dir / "own");
    test::Repo(dir / "host").write("object", "data");
    test::Repo(dir.path()).write("elsewhere", "secret");
  }
  /// Runs `step` behind the walls; its result is the exit code.
  template <class Step>
  End inside(Step step) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      int code = 99;
      try {
        sync::SyncLimits limits;
        limits.memory = 64u << 20;
        limits.bytes = 1u << 20;
        limits.objects = 10;
        limit_resources(limits);
        confine({(dir / "host").string()}, (dir / "own").string());
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
  template <class Step>
  void expect_code(int code, Step step) {
    const auto end = inside(step);
    EXPECT_EQ(end.signal, 0);
    EXPECT_EQ(end.code, code);
  }
  static bool landlock() { return ::syscall(SYS_landlock_create_ruleset, nullptr, 0, 1U) > 0; }

  test::TempDir dir;
};

TEST_F(Confine, ProgramsSocketsAndOtherProcessesAreOutOfReach) {
  char name[] = "/bin/true";
  char* argv[] = {name, nullptr};
  expect_killed([&] { return ::execve(name, argv, nullptr); });
  expect_killed([] { return ::socket(AF_INET, SOCK_STREAM, 0); });
  expect_killed([] { return ::socket(AF_UNIX, SOCK_STREAM, 0); });
  expect_killed([] { return static_cast<int>(::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr)); });
  expect_killed([] { return ::mount("none", "/", "tmpfs", 0, nullptr); });
  expect_killed([] { return ::kill(::getppid(), 0); });
  expect_killed([] { return ::fork(); });
  expect_killed([] { return ::setuid(0); });
  expect_killed([] { return static_cast<int>(::syscall(SYS_io_uring_setup, 1, nullptr)); });
  expect_killed([] { return static_cast<int>(::syscall(SYS_memfd_create, "x", 0)); });
  const sockaddr_un address{AF_UNIX, "/run/x"};
  expect_killed([&] {
    return static_cast<int>(::sendto(0, "x", 1, 0, reinterpret_cast<const sockaddr*>(&address), sizeof address));
  });
  expect_killed([] { return ::symlink("/etc/passwd", "x"); });
  expect_killed([] {
    const rlimit limit{1, 1};
    return ::setrlimit(RLIMIT_NOFILE, &limit);
  });
}

TEST_F(Confine, FileWorkInTheQuarantineGoesOn) {
  const auto own = (dir / "own/file").string(), host = (dir / "host/object").string();
  expect_code(0, [&] {
    const int fd = ::open(own.c_str(), O_RDWR | O_CREAT, 0600);
    return fd >= 0 && ::write(fd, "x", 1) == 1 && ::ftruncate(fd, 0) == 0 &&
                   ::rename(own.c_str(), (own + "2").c_str()) == 0 && ::open(host.c_str(), O_RDONLY) >= 0
               ? 0
               : 1;
  });
}

TEST_F(Confine, OtherFilesAreOutOfReach) {
  if (!landlock()) GTEST_SKIP() << "this kernel has no Landlock";
  const auto host = (dir / "host/object").string(), other = (dir / "elsewhere").string(),
             fresh = (dir / "host/new").string();
  expect_code(EACCES, [&] { return ::open(other.c_str(), O_RDONLY) < 0 ? errno : 0; });
  expect_code(EACCES, [&] { return ::open("/etc/passwd", O_RDONLY) < 0 ? errno : 0; });
  expect_code(EACCES, [&] { return ::open(host.c_str(), O_WRONLY) < 0 ? errno : 0; });
  expect_code(EACCES, [&] { return ::open(fresh.c_str(), O_WRONLY | O_CREAT, 0600) < 0 ? errno : 0; });
  expect_code(EACCES, [&] { return ::unlink(host.c_str()) < 0 ? errno : 0; });
}

TEST_F(Confine, MemoryAndFilesAreBounded) {
#ifndef AGENTVM_SANITIZED  // shadow memory is more than any limit of ours: there is none on memory then
  expect_code(ENOMEM, [] {
    return ::mmap(nullptr, 128u << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? errno
                                                                                                                 : 0;
  });
#endif
  const auto own = (dir / "own/file").string();
  expect_code(EFBIG, [&] {
    ::signal(SIGXFSZ, SIG_IGN);
    const int fd = ::open(own.c_str(), O_RDWR | O_CREAT, 0600);
    return ::ftruncate(fd, 64u << 20) < 0 ? errno : 0;
  });
  expect_code(EMFILE, [&] {
    for (;;)
      if (::open(own.c_str(), O_RDONLY | O_CREAT, 0600) < 0) return errno;
  });
}

}  // namespace
}  // namespace agentvm::git
