// What listens in a guest: looked for by the agent, told to the host, checked there.
#include "guest/agent/port_watch.hpp"

#include <fstream>
#include <thread>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest/agent/server.hpp"
#include "guest/control/control.hpp"
#include "guest/control/ports.hpp"
#include "guest/protocol/frame.hpp"
#include "tests/support/hostile_text.hpp"
#include "tests/support/temporary_folder.hpp"

namespace agentvm::guest {
namespace {

using agent::parse_proc_net_tcp;
using agent::PortWatch;
using test::error_of;
using testing::HasSubstr;

struct Listener {
  explicit Listener(int family) : fd(check_errno(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")) {
    sockaddr_storage address{};
    address.ss_family = static_cast<sa_family_t>(family);
    socklen_t size = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    if (family == AF_INET)
      reinterpret_cast<sockaddr_in&>(address).sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else
      reinterpret_cast<sockaddr_in6&>(address).sin6_addr = in6addr_loopback;
    check_errno(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size), "bind");
    check_errno(::listen(fd.get(), 1), "listen");
    check_errno(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size), "getsockname");
    port = ntohs(reinterpret_cast<sockaddr_in&>(address).sin_port);
  }
  UniqueFd fd;
  std::uint16_t port = 0;
};

const GuestPort* find(const GuestPorts& ports, std::uint16_t number) {
  for (const auto& port : ports.ports)
    if (port.number == number) return &port;
  return nullptr;
}

TEST(PortWatch, ReadsTheKernelsTables) {
  const auto sockets = parse_proc_net_tcp(
      "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
      "   0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 ff 100 0\n"
      "   1: 0100007F:0BB9 0100007F:0016 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1 ff 100 0\n"
      "   2: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 "
      "00:00000000 00000000     0        0 4713 1 ff 100 0\n"
      "   3: garbage 0A\n   4: 01007F:0BB8 x 0A a b c d e 1\n");
  ASSERT_EQ(sockets.size(), 2u);
  EXPECT_EQ(sockets[0], (agent::ListeningSocket{4711, 3000, "127.0.0.1"}));
  EXPECT_EQ(sockets[1], (agent::ListeningSocket{4713, 8080, "::1"}));
}

TEST(PortWatch, NamesTheLowestProcessAndItsFolder) {
  const test::TemporaryFolder root;
  fs::create_directories(root / "proc/net");
  for (const char* process : {"200", "1000", "self"}) fs::create_directories(root / "proc" / process / "fd");
  std::ofstream(root / "proc/net/tcp")
      << "   0: 00000000:0BB8 00000000:0000 0A 0:0 00:0 0  1000        0 4711 1 ff 100 0\n"
         "   1: 00000000:0016 00000000:0000 0A 0:0 00:0 0  0        0 99 1 ff 100 0\n";
  for (const char* process : {"200", "1000"}) {
    fs::create_symlink("socket:[4711]", root / "proc" / process / "fd/5");
    fs::create_symlink("/workspace/web", root / "proc" / process / "cwd");
    std::ofstream(root / "proc" / process / "comm") << "no\x1b" << process << "\n";
  }
  PortWatch watch(root.path());
  watch.update();
  EXPECT_EQ(watch.ports(), Json::parse(R"([{"port": 22, "address": "0.0.0.0", "process": "", "folder": ""},
      {"port": 3000, "address": "0.0.0.0", "process": "no?200", "folder": "/workspace/web"}])"));
  const auto token = watch.token();
  watch.update();
  EXPECT_EQ(watch.token(), token);
  fs::remove(root / "proc/net/tcp");
  watch.update();
  EXPECT_NE(watch.token(), token);
  EXPECT_TRUE(watch.ports().empty());
}

TEST(PortWatch, TheHostHearsOfThisMachinesPorts) {
  auto pair = make_socketpair();
  agent::ServerOptions options;
  options.stage = agent::Stage::running;
  agent::Server server(pair.second.get(), std::move(options));
  std::thread guest([&] { server.run(Deadline::after(milliseconds(60'000))); });
  const auto deadline = Deadline::after(milliseconds(30'000));
  {
    Control control(std::move(pair.first));
    control.hello(deadline);
    const Listener four(AF_INET);
    auto ports = control.ports("", milliseconds(0), {}, deadline);
    ASSERT_TRUE(find(ports, four.port));
    EXPECT_EQ(find(ports, four.port)->address, "127.0.0.1");
    EXPECT_EQ(find(ports, four.port)->process, "agent_unit_test");
    EXPECT_EQ(find(ports, four.port)->folder, fs::current_path().string());
    // One that comes while somebody waits, then one that goes. Others of this machine may come and go meanwhile.
    auto six = std::make_unique<Listener>(AF_INET6);
    const auto number = six->port;
    while (!find(ports, number)) ports = control.ports(ports.token, milliseconds(20'000), {}, deadline);
    EXPECT_EQ(find(ports, number)->address, "::1");
    six.reset();
    while (find(ports, number)) ports = control.ports(ports.token, milliseconds(20'000), {}, deadline);
    // Whoever waits can be called away.
    std::stop_source stop;
    std::thread stopper([&] { stop.request_stop(); });
    const auto error = error_of([&] {
      while (true) ports = control.ports(ports.token, milliseconds(20'000), stop.get_token(), deadline);
    });
    stopper.join();
    EXPECT_EQ(error->code(), ErrorCode::cancelled);
  }
  ::shutdown(pair.second.get(), SHUT_RDWR);
  guest.join();
}

TEST(GuestPorts, ProcessesAndFoldersAreCleaned) {
  for (const auto& text : test::hostile_texts()) {
    const auto good = parse_guest_ports(
        {{"token", "0f"},
         {"ports", {{{"port", 3000}, {"address", "127.0.0.1"}, {"process", text}, {"folder", text}}}}});
    ASSERT_EQ(good.ports.size(), 1u);
    EXPECT_EQ(test::harm_in(good.ports[0].process), "");
    EXPECT_EQ(test::harm_in(good.ports[0].folder), "");
    EXPECT_EQ((good.ports[0].process + good.ports[0].folder).find('\n'), std::string::npos);
  }
}

TEST(GuestPorts, AreCheckedByteForByte) {
  const auto parse = [](const std::string& port) {
    return parse_guest_ports({{"token", "0f"}, {"ports", Json::array({Json::parse(port)})}});
  };
  const auto good = parse(R"({"port": 3000, "address": "127.0.0.1", "process": "a\u001b[31m", "folder": "/w\n"})");
  ASSERT_EQ(good.ports.size(), 1u);
  EXPECT_EQ(good.ports[0].process.find('\x1b'), std::string::npos);
  EXPECT_EQ(good.ports[0].folder.find('\n'), std::string::npos);
  for (const char* bad : {R"({"port": 0, "address": "127.0.0.1", "process": "", "folder": ""})",
                          R"({"port": 65536, "address": "127.0.0.1", "process": "", "folder": ""})",
                          R"({"port": "22", "address": "127.0.0.1", "process": "", "folder": ""})",
                          R"({"port": 3000, "address": "evil.example", "process": "", "folder": ""})",
                          R"({"port": 3000, "address": "0127.0.0.1", "process": "", "folder": ""})",
                          R"({"port": 3000, "address": "0:0:0:0:0:0:0:1", "process": "", "folder": ""})",
                          R"({"port": 3000, "address": "::1%lo", "process": "", "folder": ""})",
                          R"({"port": 3000, "address": "127.0.0.1", "process": 1, "folder": ""})",
                          R"({"port": 3000, "address": "127.0.0.1", "process": ""})", "7", "null"})
    EXPECT_TRUE(error_of([&] { parse(bad); })) << bad;
  EXPECT_TRUE(error_of([] { parse_guest_ports({{"token", "g"}, {"ports", Json::array()}}); }));
  EXPECT_TRUE(error_of([] { parse_guest_ports({{"token", ""}, {"ports", Json::array()}}); }));
  EXPECT_TRUE(error_of([] { parse_guest_ports({{"token", "0"}, {"ports", Json::object()}}); }));
  Json many = Json::array();
  for (std::size_t i = 0; i <= listening_port_limit; ++i)
    many.push_back({{"port", 1}, {"address", "::1"}, {"process", ""}, {"folder", ""}});
  EXPECT_TRUE(error_of([&] { parse_guest_ports({{"token", "0"}, {"ports", many}}); }));
}

}  // namespace
}  // namespace agentvm::guest
