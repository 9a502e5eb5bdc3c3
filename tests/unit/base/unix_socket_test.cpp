#include "vmm/base/unix_socket.hpp"

#include <csignal>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/temporary_folder.hpp"

namespace agentvm {
namespace {

using test::error_of;

Deadline soon() {
  return Deadline::after(std::chrono::seconds(10));
}

UniqueFd accept_from(int listener) {
  EXPECT_TRUE(wait_for(listener, POLLIN, soon()));
  return UniqueFd(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
}

TEST(UnixSocket, PathsBeyondTheLimitWork) {
  const test::TemporaryFolder folder;
  const auto deep = folder / std::string(90, 'd') / std::string(90, 'e');
  ensure_private_dir(deep);
  const auto path = deep / "agent.sock";
  EXPECT_TRUE(error_of([&] { check_socket_path(path); })) << "others cannot be given this path";
  const auto listener = listen_unix(path);
  const auto client = connect_unix(path, soon());
  const auto server = accept_from(listener.get());
  write_all(client.get(), "hi", soon());
  char buffer[8];
  EXPECT_EQ(read_some(server.get(), buffer, sizeof buffer, soon()), 2U);
  EXPECT_EQ(peer_credentials(server.get()).uid, ::getuid());
  EXPECT_EQ(peer_credentials(server.get()).pid, ::getpid());
  struct stat status {};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
}

TEST(UnixSocket, BorderOfTheLimit) {
  EXPECT_NO_THROW(check_socket_path("/" + std::string(106, 'a')));
  EXPECT_TRUE(error_of([] { check_socket_path("/" + std::string(107, 'a')); }));
}

TEST(UnixSocket, StaleFilesAreReplacedLiveOnesAreNot) {
  const test::TemporaryFolder folder;
  const auto path = folder / "s";
  listen_unix(path).reset();
  EXPECT_TRUE(fs::exists(path)) << "the file stays behind its listener";
  EXPECT_EQ(error_of([&] { connect_unix(path, soon()); })->code(), ErrorCode::not_found);
  const auto alive = listen_unix(path);
  EXPECT_EQ(error_of([&] { listen_unix(path); })->code(), ErrorCode::wrong_state);
  EXPECT_NO_THROW(connect_unix(path, soon()));
  EXPECT_EQ(error_of([&] { connect_unix(folder / "absent", soon()); })->code(), ErrorCode::not_found);
}

TEST(UnixSocket, AFileThatIsNoSocketIsNotRemoved) {
  const test::TemporaryFolder folder;
  write_file_atomic(folder / "precious", "x");
  EXPECT_TRUE(error_of([&] { listen_unix(folder / "precious"); }));
  EXPECT_EQ(read_file(folder / "precious"), "x");
}

TEST(UnixSocket, DescriptorsTravel) {
  auto pair = make_socketpair();
  auto pipe = make_pipe();
  const int fds[] = {pipe.second.get(), pipe.first.get()};
  send_with_fds(pair.first.get(), "two", fds, soon());
  std::vector<UniqueFd> received;
  EXPECT_EQ(receive_with_fds(pair.second.get(), 100, received, soon()), "two");
  ASSERT_EQ(received.size(), 2U);
  for (const auto& fd : received) EXPECT_TRUE(::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC);
  write_all(received[0].get(), "x", soon());
  char byte = 0;
  EXPECT_EQ(read_some(pipe.first.get(), &byte, 1, soon()), 1U);
  EXPECT_EQ(byte, 'x');
  pair.first.reset();
  EXPECT_EQ(receive_with_fds(pair.second.get(), 100, received, soon()), "") << "end of stream";
  const std::vector<int> many(9, 0);
  EXPECT_EQ(error_of([&] { send_with_fds(pair.second.get(), "x", many, soon()); })->code(), ErrorCode::usage);
}

TEST(UnixSocket, WaitsEndByTheirDeadline) {
  auto pair = make_socketpair();
  std::vector<UniqueFd> none;
  const auto brief = [] { return Deadline::after(milliseconds(30)); };
  char byte;
  EXPECT_EQ(error_of([&] { receive_with_fds(pair.first.get(), 10, none, brief()); })->code(), ErrorCode::timed_out);
  EXPECT_EQ(error_of([&] { read_some(pair.first.get(), &byte, 1, brief()); })->code(), ErrorCode::timed_out);
  const std::string large(8u << 20, 'x');
  set_nonblocking(pair.first.get(), true);
  EXPECT_EQ(error_of([&] { write_all(pair.first.get(), large, brief()); })->code(), ErrorCode::timed_out);
}

// The peer may stop reading: a blocking descriptor must not hold us beyond the deadline either.
TEST(UnixSocket, BlockingDescriptorsKeepTheDeadlineToo) {
  auto pair = make_socketpair();
  const std::string large(8u << 20, 'x');
  const auto start = std::chrono::steady_clock::now();
  std::thread rescue([&] {
    std::this_thread::sleep_for(std::chrono::seconds(3));
    ::shutdown(pair.second.get(), SHUT_RDWR);  // ends a write that would hang for ever
  });
  const auto error = error_of([&] { write_all(pair.first.get(), large, Deadline::after(milliseconds(50))); });
  const auto took = std::chrono::steady_clock::now() - start;
  rescue.join();
  ASSERT_TRUE(error);
  EXPECT_LT(took, std::chrono::seconds(2));
  EXPECT_EQ(error->code(), ErrorCode::timed_out);
}

TEST(Pipe, BlockingPipesKeepTheDeadlineToo) {
  auto pipe = make_pipe();
  const std::string large(1u << 20, 'x');
  std::thread rescue([reader = std::move(pipe.first)]() mutable {
    std::this_thread::sleep_for(std::chrono::seconds(3));
    reader.reset();
  });
  ::signal(SIGPIPE, SIG_IGN);
  const auto error = error_of([&] { write_all(pipe.second.get(), large, Deadline::after(milliseconds(50))); });
  rescue.join();
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::timed_out);
}

}  // namespace
}  // namespace agentvm
