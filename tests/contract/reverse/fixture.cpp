#include "tests/contract/reverse/fixture.hpp"

#include <csignal>

#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/error.hpp"

namespace agentvm::proxy {
namespace {

std::size_t open_descriptors() {
  return static_cast<std::size_t>(
      std::distance(std::filesystem::directory_iterator("/proc/self/fd"), std::filesystem::directory_iterator()));
}

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

}  // namespace

Server::Server(std::function<void(int)> serve) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof address;
  check_errno(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), size), "bind");
  check_errno(::listen(fd_.get(), 1024), "listen");
  check_errno(::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size), "getsockname");
  port = ntohs(address.sin_port);
  acceptor_ = std::thread([this, serve = std::move(serve)] {
    std::vector<std::thread> threads;
    while (true) {
      UniqueFd client(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!client) break;
      ++accepted;
      threads.emplace_back([&serve, client = std::move(client)] {
        try {
          serve(client.get());
        } catch (const Error&) {  // the proxy ended it: the test looks at its own end
        }
      });
    }
    for (auto& thread : threads) thread.join();
  });
}

Server::~Server() {
  ::shutdown(fd_.get(), SHUT_RDWR);
  acceptor_.join();
}

Program::Program(const std::string& script, const std::vector<std::string>& arguments) {
  FdPair out = make_pipe();
  ProcessSpec spec;
  spec.argv = {"/usr/bin/python3", "-u", fmt::format("{}/{}", REVERSE_SERVERS, script)};
  spec.argv.insert(spec.argv.end(), arguments.begin(), arguments.end());
  spec.fds = {{1, out.second.get()}};
  process_ = Process::spawn(spec);
  out.second.reset();
  std::string line;
  char byte = 0;
  while (read_some(out.first.get(), &byte, 1, soon()) == 1 && byte != '\n') line += byte;
  port = static_cast<std::uint16_t>(std::stoi(line));
}

UniqueFd connect_to(std::uint16_t port) {
  UniqueFd fd(check_errno(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
  const sockaddr_in address = loopback(port);
  check_errno(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), "connect");
  return fd;
}

std::string read_to_end(int fd) {
  std::string text;
  char buffer[16 * 1024];
  try {
    while (const std::size_t size = read_some(fd, buffer, sizeof buffer, soon())) text.append(buffer, size);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::timed_out) throw;
    text += "<reset>";
  }
  return text;
}

std::string read_head(int fd) {
  std::string text;
  char byte;
  while (!text.ends_with("\r\n\r\n") && read_some(fd, &byte, 1, soon()) == 1) text += byte;
  return text;
}

void serve_until_half_closed(int fd) {
  read_head(fd);
  write_all(fd, "HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", soon());
  write_all(fd, "got " + read_to_end(fd), soon());
}

std::string read_exactly(int fd, std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t at = 0; at < size;) {
    const std::size_t got = read_some(fd, text.data() + at, size - at, soon());
    if (got == 0) {
      text.resize(at);
      break;
    }
    at += got;
  }
  return text;
}

bool at_end(int fd) {
  char byte;
  try {
    return read_some(fd, &byte, 1, soon()) == 0;
  } catch (const Error& error) {
    return error.code() != ErrorCode::timed_out;  // a reset
  }
}

int status_of(const std::string& answer) {
  return answer.starts_with("HTTP/1.1 ") && answer.size() > 12 ? std::stoi(answer.substr(9, 3)) : 0;
}

void serve_each(int fd, const std::function<std::string(const std::string&, const std::string&)>& answer) {
  for (;;) {
    const std::string head = read_head(fd);
    if (!head.ends_with("\r\n\r\n")) return;
    std::string body;
    if (const auto at = head.find("Content-Length: "); at != head.npos)
      body = read_exactly(fd, std::stoul(head.substr(at + 16)));
    write_all(fd, answer(head, body), soon());
  }
}

std::string answer_with(const std::string& body, const std::string& more) {
  return fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{}\r\n{}", body.size(), more, body);
}

ReverseTest::ReverseTest() {
  std::signal(SIGPIPE, SIG_IGN);
  before_ = open_descriptors();
}

void ReverseTest::start(Limits limits, unsigned workers, SamePort same_port, std::shared_ptr<Authority> authority) {
  Options options;
  options.workers = workers;
  options.limits = limits;
  options.same_port = same_port;
  options.authority = std::move(authority);
  options.waiting = [this](const std::string& sandbox) {
    const auto found = waiting_.find(sandbox);
    return found == waiting_.end() ? std::vector<std::string>() : found->second;
  };
  options.dial = [this](const std::string&, const std::string&, std::uint16_t port, Deadline, Options::Dialled done) {
    ++dials_;
    {
      const std::lock_guard lock(dialling_);
      if (dial_instead_) return dial_instead_(std::move(done));
    }
    UniqueFd connection;
    try {
      connection = connect_to(port);
    } catch (const Error& error) {
      return done({}, error.message());
    }
    done(std::move(connection), "");
  };
  proxy_ = std::make_unique<ReverseProxy>(std::move(options));
}

void ReverseTest::route(const std::string& sandbox, std::vector<std::uint16_t> ports, std::uint64_t machine) {
  SandboxRoute route{.state = SandboxRoute::State::running, .state_text = "running", .machine = machine};
  for (const auto port : ports) route.ports.push_back({port, "127.0.0.1", "server", true});
  if (!ports.empty()) route.primary = ports.front();
  proxy_->routes().change([&](Routes& all) {
    all[sandbox] = route;
    proxy_->follow_ports(all);
  });
}

std::string ReverseTest::host(const std::string& name) const {
  return fmt::format("{}.localhost:{}", name, proxy_->site().port);
}
std::string ReverseTest::host(std::uint16_t port, const std::string& sandbox) const {
  return fmt::format("{}.{}.localhost:{}", port, sandbox, proxy_->site().port);
}

std::string ReverseTest::ask(const std::string& request) const {
  const UniqueFd fd = dial();
  write_all(fd.get(), request, soon());
  return read_to_end(fd.get());
}

std::string ReverseTest::get(const std::string& to, const std::string& path, const std::string& more) const {
  return ask(fmt::format("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{}\r\n", path, to, more));
}

void ReverseTest::wait_idle() const {
  for (const Deadline deadline = soon(); proxy_->connection_count() > 0 && !deadline.expired();) ::usleep(2000);
  EXPECT_EQ(proxy_->connection_count(), 0u);
}

void ReverseTest::TearDown() {
  proxy_.reset();
  for (const Deadline deadline = soon(); open_descriptors() > before_ && !deadline.expired();) ::usleep(2000);
  EXPECT_EQ(open_descriptors(), before_);
}

}  // namespace agentvm::proxy
