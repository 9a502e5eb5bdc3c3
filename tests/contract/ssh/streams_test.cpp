// Many channels, much data, forwards and bad ends, on a real sshd on loopback.
#include <fstream>
#include <thread>

#include <dirent.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/contract/ssh/sshd.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::guest {
namespace {

using testing::HasSubstr;

Deadline soon() {
  return Deadline::after(milliseconds(20'000));
}

std::size_t count_entries(const char* folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

/// The number of open descriptors once it has stayed the same for 200 ms: those of a channel close when the far end's
/// answer comes, after its exec has been told the end.
std::size_t settled_descriptors() {
  std::size_t count = count_entries("/proc/self/fd");
  Deadline quiet = Deadline::after(milliseconds(200));
  for (const Deadline deadline = soon(); !quiet.expired() && !deadline.expired(); ::usleep(10'000))
    if (const std::size_t now = count_entries("/proc/self/fd"); now != count)
      count = now, quiet = Deadline::after(milliseconds(200));
  return count;
}

#ifdef AGENTVM_SANITIZED
constexpr std::size_t kept_bytes = 256u << 20;  // what was freed is not given back at once (quarantine_size_mb)
#else
constexpr std::size_t kept_bytes = 0;
#endif

std::size_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::size_t total = 0, resident = 0;
  file >> total >> resident;
  return resident * 4096;
}

/// SHA-256 fed bit by bit: a GiB is never in memory.
class Digest {
 public:
  Digest() : context_(EVP_MD_CTX_new()) { EVP_DigestInit_ex(context_, EVP_sha256(), nullptr); }
  ~Digest() { EVP_MD_CTX_free(context_); }
  void add(const char* data, std::size_t size) { EVP_DigestUpdate(context_, data, size); }
  std::string result() {
    unsigned char bytes[32];
    EVP_DigestFinal_ex(context_, bytes, nullptr);
    return std::string(reinterpret_cast<char*>(bytes), sizeof bytes);
  }

 private:
  EVP_MD_CTX* context_;
};

/// Sends `total` bytes that differ everywhere through `fd` and back; true when they come back unchanged.
bool round_trip(int fd, std::size_t total) {
  std::string sent, received;
  std::thread writer([&] {
    Digest digest;
    std::string block(256 * 1024, '\0');
    for (std::size_t done = 0; done < total; done += block.size()) {
      for (std::size_t i = 0; i < block.size(); i += 8)
        std::memcpy(&block[i], std::array{(done + i) * 0x9E3779B97F4A7C15u}.data(), 8);
      const std::size_t size = std::min(block.size(), total - done);
      digest.add(block.data(), size);
      write_all(fd, std::string_view(block).substr(0, size), Deadline::after(milliseconds(60'000)));
    }
    ::shutdown(fd, SHUT_WR);
    sent = digest.result();
  });
  Digest digest;
  std::size_t count = 0;
  std::vector<char> buffer(256 * 1024);
  while (const std::size_t size = read_some(fd, buffer.data(), buffer.size(), Deadline::after(milliseconds(60'000)))) {
    digest.add(buffer.data(), size);
    count += size;
  }
  writer.join();
  received = digest.result();
  return count == total && sent == received;
}

/// A TCP server in the "guest" (this host's loopback).
class Server {
 public:
  explicit Server(std::function<void(int)> serve) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    check_errno(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), size), "bind");
    check_errno(::listen(fd_.get(), 64), "listen");
    check_errno(::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size), "getsockname");
    port = ntohs(address.sin_port);
    thread_ = std::thread([this, serve] {
      while (true) {
        const UniqueFd client(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        if (!client) return;
        serve(client.get());
      }
    });
  }
  ~Server() {
    ::shutdown(fd_.get(), SHUT_RDWR);
    thread_.join();
  }
  std::uint16_t port = 0;

 private:
  UniqueFd fd_;
  std::thread thread_;
};

UniqueFd connect_loopback(std::uint16_t port) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) fd.reset();
  return fd;
}

TEST(SshStreams, OneGibibyteThroughCatIsExact) {
  const Sshd sshd;
  const auto streams = connect(sshd);
  const auto exec = streams->exec({.argv = {"cat"}}, soon());
  EXPECT_TRUE(round_trip(exec->take_io().get(), 1u << 30));
  EXPECT_EQ(exec->wait(soon())->code, 0);
}

int occurrences(const std::string& text, std::string_view wanted) {
  int count = 0;
  for (auto at = text.find(wanted); at != text.npos; at = text.find(wanted, at + wanted.size())) ++count;
  return count;
}

TEST(SshStreams, RekeyingEveryMebibyteLosesNothing) {
  const Sshd sshd;
  const auto streams = connect(sshd, {.rekey_bytes = 1u << 20});
  std::vector<std::thread> threads;
  std::atomic<int> good = 0;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      const auto exec = streams->exec({.argv = {"cat"}}, soon());
      if (round_trip(exec->take_io().get(), 8u << 20)) ++good;
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(good, 4);
  EXPECT_TRUE(streams->alive());
  // The first exchange is the connection's own. Of 32 MiB each way some pass while keys are changed: 21 to 30 more were
  // seen.
  EXPECT_GE(occurrences(sshd.log(), "SSH2_MSG_KEXINIT received"), 1 + 8);
}

TEST(SshStreams, AStalledReaderStallsOnlyItself) {
  const Sshd sshd;
  const auto streams = connect(sshd);
  const auto stalled = streams->exec({.argv = {"cat", "/dev/zero"}}, soon());
  const UniqueFd unread = stalled->take_io();
  std::vector<std::unique_ptr<Exec>> execs;
  for (int i = 0; i < 63; ++i) execs.push_back(streams->exec({.argv = {"cat"}}, soon()));
  const std::size_t before = resident_bytes();
  std::vector<std::thread> threads;
  std::atomic<int> good = 0;
  for (auto& exec : execs)
    threads.emplace_back([&good, fd = exec->take_io()] {
      if (round_trip(fd.get(), 2u << 20)) ++good;
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(good, 63);
  EXPECT_LT(
      resident_bytes(),
      before + kept_bytes + (200u << 20));  // 63 pairs of buffers and windows, and no growth with what was not read
}

// libssh 0.10 opens the window on every read however much it holds: a reader that is merely slow would gather
// everything in memory.
TEST(SshStreams, ASlowReaderDoesNotGatherTheStreamInMemory) {
  const Sshd sshd;
  const auto streams = connect(sshd);
  const auto exec = streams->exec({.argv = {"cat", "/dev/zero"}}, soon());
  const UniqueFd io = exec->take_io();
  const std::size_t before = resident_bytes();
  std::vector<char> buffer(64 * 1024);
  for (int i = 0; i < 300; ++i) {
    read_some(io.get(), buffer.data(), buffer.size(), soon());
    ::usleep(3000);
  }
  EXPECT_LT(resident_bytes(), before + kept_bytes + (16u << 20));
}

// Both streams share one window, and libssh 0.10 opens it for standard error whatever waits on standard output: without
// our own limit a guest that mixes them fills the host's memory.
TEST(SshStreams, MixingTheStreamsDoesNotGatherOneInMemory) {
  const Sshd sshd;
  const auto streams = connect(sshd);
  const std::size_t before = resident_bytes();
  const auto exec =
      streams->exec({.argv = {"sh", "-c", "while :; do head -c 600000 /dev/zero; echo x >&2; done"}}, soon());
  const UniqueFd unread = exec->take_io(), err = exec->take_err();
  char buffer[64];
  std::size_t most = 0;
  const Deadline deadline = Deadline::after(milliseconds(3000));
  try {
    while (read_some(err.get(), buffer, sizeof buffer, deadline) > 0) most = std::max(most, resident_bytes());
  } catch (const Error&) {  // stalled, as a window that works would have it (libssh 0.11)
  }
  EXPECT_LT(most, before + kept_bytes + 3 * (32u << 20));
  EXPECT_EQ(streams->exec({.argv = {"true"}}, soon())->wait(soon())->code, 0);
}

/// What a dial without waiting came to.
struct Dialling {
  void begin(Streams& streams, std::uint16_t port, Deadline deadline) {
    streams.dial_async("127.0.0.1", port, deadline, [this](UniqueFd fd, const Error* error) {
      const std::lock_guard lock(mutex);
      ++calls;
      connection = std::move(fd);
      if (error) text = error->message();
      told.notify_all();
    });
  }
  void wait() {
    std::unique_lock lock(mutex);
    EXPECT_TRUE(told.wait_until(lock, soon().at(), [this] { return calls > 0; }));
    EXPECT_EQ(calls, 1);
  }
  std::mutex mutex;
  std::condition_variable told;
  int calls = 0;
  UniqueFd connection;
  std::string text;
};

TEST(SshStreams, DialsWithoutWaiting) {
  Sshd sshd;
  const auto streams = connect(sshd);
  Server server([](int fd) { write_all(fd, "got " + read_to_end(fd, soon()), soon()); });
  Dialling good, refused, late, lost;
  good.begin(*streams, server.port, soon());
  refused.begin(*streams, free_port(), soon());
  good.wait();
  refused.wait();
  ASSERT_TRUE(good.connection);
  write_all(good.connection.get(), "it", soon());
  ::shutdown(good.connection.get(), SHUT_WR);
  EXPECT_EQ(read_to_end(good.connection.get(), soon()), "got it");
  EXPECT_FALSE(refused.connection);
  EXPECT_THAT(refused.text, HasSubstr("refused"));
  sshd.freeze();
  late.begin(*streams, server.port, Deadline::after(milliseconds(50)));
  late.wait();
  EXPECT_FALSE(late.connection);
  EXPECT_THAT(late.text, HasSubstr("in time"));
  Dialling waiting;
  waiting.begin(*streams, server.port, soon());
  sshd.kill();
  waiting.wait();
  EXPECT_FALSE(waiting.connection);
  lost.begin(*streams, server.port, soon());
  lost.wait();
  EXPECT_FALSE(lost.connection);
  EXPECT_THAT(lost.text, HasSubstr("gone"));
}

TEST(SshStreams, DialReachesTheGuestsLoopbackAndSaysWhenItCannot) {
  const Sshd sshd;
  const auto streams = connect(sshd);
  Server server([](int fd) {
    const std::string text = read_to_end(fd, soon());  // until the half close
    write_all(fd, "got " + std::to_string(text.size()), soon());
  });
  const UniqueFd fd = streams->dial("127.0.0.1", server.port, soon());
  write_all(fd.get(), std::string(500'000, 'x'), soon());
  ::shutdown(fd.get(), SHUT_WR);
  EXPECT_EQ(read_to_end(fd.get(), soon()), "got 500000");
  try {
    streams->dial("127.0.0.1", free_port(), soon());
    ADD_FAILURE() << "a closed port was reached";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::operation_failed);
    EXPECT_THAT(error.message(), HasSubstr("refused"));
  }
  EXPECT_TRUE(streams->alive());
}

TEST(SshStreams, AcceptAnswersOnAFixedGuestPortUntilItIsDestroyed) {
  const Sshd sshd;
  const auto streams = connect(sshd);
  const std::uint16_t port = free_port();
  auto listener = streams->accept(
      port,
      [](UniqueFd fd) {
        std::thread([fd = std::move(fd)] {
          write_all(fd.get(), "echo " + read_to_end(fd.get(), soon()), soon());
        }).detach();
      },
      soon());
  EXPECT_EQ(listener->guest_port(), port);
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 50; ++i) {
    clients.push_back(connect_loopback(port));
    ASSERT_TRUE(clients.back());
    write_all(clients.back().get(), std::to_string(i), soon());
    ::shutdown(clients.back().get(), SHUT_WR);
  }
  for (int i = 0; i < 50; ++i)
    EXPECT_EQ(read_to_end(clients[static_cast<std::size_t>(i)].get(), soon()), "echo " + std::to_string(i));
  EXPECT_THROW(streams->accept(
                   port, [](UniqueFd) {}, soon()),
               Error);
  listener.reset();
  for (const Deadline deadline = soon(); connect_loopback(port) && !deadline.expired();) ::usleep(10'000);
  EXPECT_FALSE(connect_loopback(port));
  // The port can be had again, by the same connection.
  EXPECT_EQ(streams
                ->accept(
                    port, [](UniqueFd) {}, soon())
                ->guest_port(),
            port);
}

TEST(SshStreams, APortThatIsTakenInTheGuestIsAnError) {
  const Sshd sshd;
  const auto streams = connect(sshd);
  Server server([](int) {});
  EXPECT_THROW(streams->accept(
                   server.port, [](UniqueFd) {}, soon()),
               Error);
  EXPECT_TRUE(streams->alive());
}

TEST(SshStreams, StormOfOpenAndCloseLeaksNeitherDescriptorsNorThreads) {
  const Sshd sshd;
  const auto streams = connect(sshd);
  streams->exec({.argv = {"true"}}, soon())->wait(soon());
  const std::size_t fds = settled_descriptors(), threads = count_entries("/proc/self/task");
  std::vector<std::thread> workers;
  std::atomic<int> ended = 0;
  for (int worker = 0; worker < 8; ++worker)
    workers.emplace_back([&, worker] {
      for (int i = 0; i < 25; ++i) {
        const auto exec = streams->exec({.argv = {"sh", "-c", i % 3 == 0 ? "cat" : "echo hello; exit 3"}}, soon());
        UniqueFd io = exec->take_io();
        if ((i + worker) % 2 == 0) io.reset();
        if (i % 3 != 0 && io && read_to_end(io.get(), soon()) == "hello\n" && exec->wait(soon())->code == 3) ++ended;
        if (i % 3 != 0 && !io) ++ended;
      }
    });
  for (auto& worker : workers) worker.join();
  EXPECT_EQ(ended, 8 * 16);
  EXPECT_EQ(count_entries("/proc/self/task"), threads);
  for (const Deadline deadline = soon(); count_entries("/proc/self/fd") > fds && !deadline.expired();) ::usleep(10'000);
  EXPECT_LE(count_entries("/proc/self/fd"), fds);
}

TEST(SshStreams, WhoeverEndsAConnectionItsDescriptorIsClosed) {
  const auto before = settled_descriptors();
  for (const bool by_the_guest : {false, true, true}) {
    auto sshd = std::make_unique<Sshd>();
    auto streams = connect(*sshd);
    if (by_the_guest) {
      sshd.reset();
      for (const Deadline deadline = soon(); streams->alive() && !deadline.expired();) ::usleep(10'000);
      EXPECT_FALSE(streams->alive());
    }
    streams.reset();
  }
  EXPECT_EQ(settled_descriptors(), before);
}

TEST(SshStreams, TheEndOfSshdEndsEverything) {
  Sshd sshd;
  const auto streams = connect(sshd);
  const auto exec = streams->exec({.argv = {"sleep", "60"}}, soon());
  const UniqueFd io = exec->take_io();
  std::mutex mutex;
  std::string reason;
  streams->on_lost([&](const std::string& text) {
    const std::lock_guard lock(mutex);
    reason += text;
  });
  sshd.kill();
  EXPECT_EQ(exec->wait(soon())->kind, GuestStatus::Kind::lost);
  EXPECT_EQ(read_to_end(io.get(), soon()), "");
  EXPECT_FALSE(streams->alive());
  EXPECT_THROW(streams->exec({.argv = {"true"}}, soon()), Error);
  EXPECT_THROW(streams->dial("127.0.0.1", 1, soon()), Error);
  for (const Deadline deadline = soon(); !deadline.expired(); ::usleep(5000)) {
    const std::lock_guard lock(mutex);
    if (!reason.empty()) break;
  }
  const std::lock_guard lock(mutex);
  EXPECT_THAT(reason, HasSubstr("ended the connection"));
  std::string again;
  streams->on_lost([&](const std::string& text) { again = text; });
  EXPECT_EQ(again, reason);
}

// Long enough that a busy machine's sshd answers in time, short enough to wait for.
constexpr milliseconds short_keepalive{3'000};

TEST(SshStreams, AGuestThatNoLongerAnswersIsNoticed) {
  Sshd sshd;
  const auto streams = connect(sshd, {.keepalive_timeout = short_keepalive});
  ::usleep(4'000'000);  // several probes are answered
  EXPECT_TRUE(streams->alive());
  const auto exec = streams->exec({.argv = {"sleep", "60"}}, soon());
  sshd.freeze();
  const auto status = exec->wait(Deadline::after(5 * short_keepalive));
  sshd.thaw();
  ASSERT_TRUE(status);
  EXPECT_EQ(status->kind, GuestStatus::Kind::lost);
  EXPECT_FALSE(streams->alive());
}

/// Each of them probes several times; some answers are there at once, while libssh still sends the question.
TEST(SshStreams, GuestsThatAnswerAreNotTakenForLost) {
  const Sshd sshd;
  std::vector<std::unique_ptr<Streams>> idle;
  for (int i = 0; i < 16; ++i) idle.push_back(connect(sshd, {.keepalive_timeout = short_keepalive / 2}));
  ::usleep(4'000'000);
  EXPECT_TRUE(std::all_of(idle.begin(), idle.end(), [](const auto& one) { return one->alive(); }));
}

TEST(SshStreams, SilenceThatIsExpectedIsNoLoss) {
  Sshd sshd;
  const auto streams = connect(sshd, {.keepalive_timeout = short_keepalive});
  const auto exec = streams->exec({.argv = {"cat"}}, soon());
  const UniqueFd io = exec->take_io();
  streams->expect_silence(true);
  sshd.freeze();
  EXPECT_FALSE(exec->wait(Deadline::after(2 * short_keepalive)));
  EXPECT_TRUE(streams->alive());
  sshd.thaw();
  streams->expect_silence(false);
  write_all(io.get(), "went on\n", soon());
  ::shutdown(io.get(), SHUT_WR);
  EXPECT_EQ(read_to_end(io.get(), soon()), "went on\n");
  // And then it is one again.
  sshd.freeze();
  for (const Deadline deadline = soon(); streams->alive() && !deadline.expired();) ::usleep(50'000);
  sshd.thaw();
  EXPECT_FALSE(streams->alive());
}

TEST(SshStreams, ClosingReportsAndOutstandingExecsEnd) {
  const Sshd sshd;
  auto streams = connect(sshd);
  const auto exec = streams->exec({.argv = {"sleep", "60"}}, soon());
  std::string reason;
  streams->on_lost([&](const std::string& text) { reason = text; });
  streams.reset();
  EXPECT_EQ(reason, "closed");
  EXPECT_EQ(exec->wait(soon())->kind, GuestStatus::Kind::lost);
}

TEST(SshStreams, AConnectionCanBeDestroyedByItsOwnCallback) {
  Sshd sshd;
  std::mutex mutex;
  auto streams = connect(sshd);
  std::atomic<bool> gone = false;
  streams->on_lost([&](const std::string&) {
    const std::lock_guard lock(mutex);
    streams.reset();
    gone = true;
  });
  sshd.kill();
  for (const Deadline deadline = soon(); !gone && !deadline.expired();) ::usleep(5000);
  EXPECT_TRUE(gone);
}

}  // namespace
}  // namespace agentvm::guest
