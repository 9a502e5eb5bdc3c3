#include "guest/control/serial_log.hpp"

#include <thread>

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/temporary_folder.hpp"
#include "vmm/base/unix_socket.hpp"

namespace agentvm::guest {
namespace {

using test::error_of;

Deadline soon() {
  return Deadline::after(milliseconds(20'000));
}

/// A machine's serial socket: we are QEMU.
struct Console {
  explicit Console(const fs::path& path) : listener(listen_unix(path)) {}
  void accept() {
    ASSERT_TRUE(wait_for(listener.get(), POLLIN, soon()));
    line.reset(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  UniqueFd listener, line;
};

void wait_for_tail(const SerialLogs& logs, const std::string& name, const std::string& wanted) {
  const auto limit = soon();
  while (!logs.tail(name, 4096).ends_with(wanted) && !limit.expired()) system_clock().sleep(milliseconds(5));
  EXPECT_TRUE(logs.tail(name, 4096).ends_with(wanted)) << logs.tail(name, 4096);
}

TEST(SerialFile, KeepsTwoFilesOfTheLimit) {
  test::TemporaryFolder folder;
  SerialFile file(folder.path());
  std::string all;
  for (int i = 0; i < 45; ++i) {
    const std::string piece(100'003, static_cast<char>('a' + i % 26));
    file.append(piece);
    all += piece;
  }
  EXPECT_LE(fs::file_size(folder / "serial.log"), serial_file_limit_bytes);
  EXPECT_EQ(fs::file_size(folder / "serial.log.1"), serial_file_limit_bytes);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()), 2);
  const auto tail = SerialFile::tail(folder.path(), serial_file_limit_bytes + 1000);
  EXPECT_EQ(tail, all.substr(all.size() - tail.size()));
  EXPECT_GT(tail.size(), serial_file_limit_bytes);
  struct stat status {};
  ::stat((folder / "serial.log").c_str(), &status);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
}

TEST(SerialFile, DoesNotFollowALink) {
  test::TemporaryFolder folder;
  write_file_atomic(folder / "victim", "");
  fs::create_symlink(folder / "victim", folder / "serial.log");
  EXPECT_TRUE(error_of([&] { SerialFile file(folder.path()); }));
}

TEST(SerialLogs, KeepsManyConsolesApartAndSurvivesTheirEnd) {
  test::TemporaryFolder folder;
  SerialLogs logs;
  std::vector<std::unique_ptr<Console>> consoles;
  for (int i = 0; i < 3; ++i) {
    const auto name = "box" + std::to_string(i);
    ensure_private_dir(folder / name);
    consoles.push_back(std::make_unique<Console>(folder / (name + ".sock")));
    logs.add(name, folder / (name + ".sock"), folder / name);
    consoles.back()->accept();
  }
  for (int i = 0; i < 3; ++i) write_all(consoles[i]->line.get(), "line of " + std::to_string(i) + "\n", soon());
  for (int i = 0; i < 3; ++i) wait_for_tail(logs, "box" + std::to_string(i), "line of " + std::to_string(i) + "\n");
  consoles[0].reset();
  write_all(consoles[1]->line.get(), "still here\n", soon());
  wait_for_tail(logs, "box1", "still here\n");
  EXPECT_EQ(logs.tail("box0", 5), "of 0\n") << "the end of a machine is when its log matters";
  logs.remove("box1");
  EXPECT_EQ(logs.tail("box1", 100), "");
  EXPECT_TRUE(error_of([&] { logs.add("none", folder / "nobody.sock", folder / "box0"); }));
}

TEST(SerialLogs, ANewMachineBeginsWithAnEmptyTail) {
  test::TemporaryFolder folder;
  SerialLogs logs;
  for (const std::string run : {"first", "second"}) {
    Console console(folder / (run + ".sock"));
    logs.add("box", folder / (run + ".sock"), folder.path());
    EXPECT_EQ(logs.tail("box", 4096), "");
    console.accept();
    write_all(console.line.get(), run + "\n", soon());
    wait_for_tail(logs, "box", run + "\n");
    EXPECT_EQ(logs.tail("box", 4096), run + "\n");
  }
  EXPECT_EQ(SerialFile::tail(folder.path(), 4096), "first\nsecond\n") << "the files keep both";
}

TEST(SerialLogs, AFloodIsReadAtItsRateAndOthersAreHeard) {
  test::TemporaryFolder folder;
  SerialLogs logs;
  for (const auto* name : {"loud", "quiet"}) ensure_private_dir(folder / name);
  Console loud(folder / "loud.sock"), quiet(folder / "quiet.sock");
  logs.add("loud", folder / "loud.sock", folder / "loud");
  logs.add("quiet", folder / "quiet.sock", folder / "quiet");
  loud.accept();
  quiet.accept();
  std::atomic<std::size_t> taken = 0;
  std::atomic<bool> stop = false;
  std::thread flood([&] {
    const std::string noise(65536, 'x');
    set_nonblocking(loud.line.get(), true);
    while (!stop) {
      const ssize_t count = ::send(loud.line.get(), noise.data(), noise.size(), MSG_NOSIGNAL);
      if (count > 0)
        taken += static_cast<std::size_t>(count);
      else
        system_clock().sleep(milliseconds(1));
    }
  });
  const auto begin = std::chrono::steady_clock::now();
  system_clock().sleep(milliseconds(1500));
  write_all(quiet.line.get(), "psst\n", soon());
  wait_for_tail(logs, "quiet", "psst\n");
  stop = true;
  flood.join();
  const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin;
  // The burst, the rate, and what the sockets' own buffers hold.
  EXPECT_LT(static_cast<double>(taken), serial_rate_bytes * (passed.count() + 1) + (1u << 20));
  EXPECT_LE(fs::file_size(folder / "loud/serial.log"), serial_file_limit_bytes);
}

}  // namespace
}  // namespace agentvm::guest
