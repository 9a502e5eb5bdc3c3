#include "proxy/reverse/acceptor.hpp"

#include <netinet/in.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/clock.hpp"
#include "vmm/base/error.hpp"

namespace agentvm::proxy {
namespace {

constexpr int backlog = 512;
constexpr int tries_limit = 8;
constexpr milliseconds accept_pause{100};

/// A listening socket on the loopback; empty, without an error, when this host has no such address. `port` 0 becomes
/// the one taken.
UniqueFd listen_on(int family, std::uint16_t& port, int& error) {
  error = 0;
  UniqueFd fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) {
    if (family != AF_INET6 || errno != EAFNOSUPPORT) error = errno;
    return {};
  }
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (family == AF_INET6) ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  sockaddr_storage storage{};
  socklen_t size = sizeof(sockaddr_in);
  if (family == AF_INET) {
    auto& address = reinterpret_cast<sockaddr_in&>(storage);
    address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  } else {
    auto& address = reinterpret_cast<sockaddr_in6&>(storage);
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(port);
    address.sin6_addr = in6addr_loopback;
    size = sizeof(sockaddr_in6);
  }
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&storage), size) != 0 || ::listen(fd.get(), backlog) != 0) {
    error = family == AF_INET6 && errno == EADDRNOTAVAIL ? 0 : errno;
    return {};
  }
  if (::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&storage), &size) != 0) error = errno;
  if (family == AF_INET) port = ntohs(reinterpret_cast<sockaddr_in&>(storage).sin_port);
  return fd;
}

/// Closed for those who connect at once, also while another thread polls it and so keeps the socket for a moment.
void end(const Listener& listener) {
  for (const auto* fd : {&listener.v4, &listener.v6})
    if (*fd) ::shutdown(fd->get(), SHUT_RDWR);
}

}  // namespace

Listener Listener::open(std::uint16_t& port) {
  const bool any = port == 0;
  for (int tries = 0;; ++tries) {
    Listener result;
    result.where = "127.0.0.1";
    result.v4 = listen_on(AF_INET, port, result.error);
    if (result.error == 0) {
      result.where = "[::1]";
      result.v6 = listen_on(AF_INET6, port, result.error);
    }
    if (result.error == 0) return result;
    result.v4.reset();
    // The port that was free for one family is taken for the other.
    if (!any || tries == tries_limit) return result;
    port = 0;
  }
}

Acceptor::Acceptor(Listener first, Accepted accepted)
    : accepted_(std::move(accepted)),
      wake_(check_errno(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "making an eventfd")) {
  listeners_.emplace(0, std::move(first));
  thread_ = std::thread([this] { run(); });
}

std::string Acceptor::open(std::uint16_t number) {
  const std::lock_guard lock(mutex_);
  if (stopped_) return "the proxy ends";
  if (listeners_.contains(number)) return "";
  auto listener = Listener::open(number);
  if (listener.error == EADDRINUSE) return "another program of this host has it";
  if (listener.error != 0) return errno_text(listener.error);
  listeners_.emplace(number, std::move(listener));
  ++change_;
  wake();
  return "";
}

void Acceptor::close(std::uint16_t number) {
  const std::lock_guard lock(mutex_);
  const auto found = number == 0 ? listeners_.end() : listeners_.find(number);
  if (found == listeners_.end()) return;
  end(found->second);
  listeners_.erase(found);
  ++change_;
  wake();
}

void Acceptor::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    for (const auto& [number, listener] : listeners_) end(listener);
    listeners_.clear();
    ++change_;
    wake();
  }
  if (thread_.joinable()) thread_.join();
}

void Acceptor::wake() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(wake_.get(), &one, sizeof one);
}

void Acceptor::run() {
  ::pthread_setname_np(::pthread_self(), "proxy-accept");
  Seen seen;
  while (look(seen)) {
    if (::poll(seen.entries.data(), seen.entries.size(), -1) < 0) {
      if (errno != EINTR) return;
      continue;
    }
    if (seen.entries[0].revents) {
      std::uint64_t count = 0;
      [[maybe_unused]] const auto size = ::read(wake_.get(), &count, sizeof count);
    }
    if (accept(seen) == Round::done) continue;
    // It stays ready: without a pause this would spin until somebody closes something.
    pollfd stop{wake_.get(), POLLIN, 0};
    ::poll(&stop, 1, static_cast<int>(accept_pause.count()));
  }
}

/// False when it is time to end.
bool Acceptor::look(Seen& seen) {
  const std::lock_guard lock(mutex_);
  if (stopped_) return false;
  if (seen.change == change_) return true;
  seen = {change_, {{wake_.get(), POLLIN, 0}}, {0}};
  for (const auto& [number, listener] : listeners_)
    for (const auto* fd : {&listener.v4, &listener.v6}) {
      if (!*fd) continue;
      seen.entries.push_back({fd->get(), POLLIN, 0});
      seen.numbers.push_back(number);
    }
  return true;
}

Acceptor::Round Acceptor::accept(const Seen& seen) {
  const std::lock_guard lock(mutex_);
  // A descriptor that was polled may be another socket's by now: what is ready is so at the next look, too.
  if (seen.change != change_) return Round::done;
  auto round = Round::done;
  for (std::size_t i = 1; i < seen.entries.size(); ++i) {
    if (!seen.entries[i].revents) continue;
    UniqueFd socket(::accept4(seen.entries[i].fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (socket)
      accepted_(std::move(socket), seen.numbers[i]);
    else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
      round = Round::no_descriptors;
  }
  return round;
}

}  // namespace agentvm::proxy
