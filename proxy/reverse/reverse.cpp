#include "proxy/reverse/reverse.hpp"

#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy/reverse/worker.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/log.hpp"

namespace agentvm::proxy {
namespace {

constexpr unsigned worker_limit = 8;
constexpr int backlog = 512;
constexpr milliseconds accept_pause{100};

/// A listening socket on the loopback; empty when this host has no such address. `port` 0 becomes the one taken.
UniqueFd listen_on(int family, std::uint16_t& port) {
  UniqueFd fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd && family == AF_INET6) return {};
  check_errno(fd.get(), "making a socket");
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
    const int error = errno;
    if (family == AF_INET6 && error == EADDRNOTAVAIL) return {};
    const auto where = family == AF_INET ? "127.0.0.1" : "[::1]";
    throw Error(
        ErrorCode::host_lacks,
        error == EADDRINUSE
            ? fmt::format("port {} of {}, where the dev servers would be, is taken by another program", port, where)
            : fmt::format("listening on {}:{} for the dev servers: {}", where, port, errno_text(error)),
        "agentvm config show");
  }
  check_errno(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&storage), &size), "getsockname");
  if (family == AF_INET) port = ntohs(reinterpret_cast<sockaddr_in&>(storage).sin_port);
  return fd;
}

struct Listeners {
  UniqueFd v4, v6;
};

Listeners listen_on_loopback(std::uint16_t& port) {
  const bool any = port == 0;
  for (int tries = 0;; ++tries) {
    try {
      Listeners result;
      result.v4 = listen_on(AF_INET, port);
      result.v6 = listen_on(AF_INET6, port);
      return result;
    } catch (const Error&) {
      // The port that was free for one family is taken for the other.
      if (!any || tries == 8) throw;
      port = 0;
    }
  }
}

std::size_t connection_limit(const Limits& limits) {
  constexpr std::size_t descriptors_each = 4;  // the client, both ends of an ssh channel's pair, and room for others
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  return std::min<std::size_t>(limits.connections, std::max<rlim_t>(64, files.rlim_cur / descriptors_each));
}

}  // namespace

class ReverseProxy::Core {
 public:
  explicit Core(Options options) {
    shared_.options = std::move(options);
    shared_.site = shared_.options.site;
    listeners_ = listen_on_loopback(shared_.site.port);
    wake_.reset(check_errno(::eventfd(0, EFD_CLOEXEC), "making an eventfd"));
    unsigned count = shared_.options.workers;
    if (count == 0) count = std::clamp(std::thread::hardware_concurrency(), 1u, worker_limit);
    const auto limit = connection_limit(shared_.options.limits);
    for (unsigned i = 0; i < count; ++i) workers_.push_back(std::make_unique<Worker>(shared_, i, count, limit));
    acceptor_ = std::thread([this] { accept(); });
  }
  ~Core() { stop(Deadline::after(milliseconds(2000))); }

  Shared& shared() { return shared_; }
  const Shared& shared() const { return shared_; }

  void stop(Deadline deadline) {
    const std::lock_guard lock(stopping_);
    if (acceptor_.joinable()) {
      const std::uint64_t one = 1;
      [[maybe_unused]] const auto written = ::write(wake_.get(), &one, sizeof one);
      acceptor_.join();
      listeners_ = {};
    }
    for (auto& worker : workers_) worker->stop();
    for (auto& worker : workers_)
      if (!worker->join(deadline)) log::warn("proxy", "a connection did not end in time");
    workers_.clear();
  }

 private:
  void accept() {
    ::pthread_setname_np(::pthread_self(), "proxy-accept");
    std::size_t next = 0;
    while (true) {
      pollfd entries[] = {{wake_.get(), POLLIN, 0}, {listeners_.v4.get(), POLLIN, 0}, {listeners_.v6.get(), POLLIN, 0}};
      if (::poll(entries, 3, -1) < 0 && errno != EINTR) return;
      if (entries[0].revents) return;
      for (const auto& entry : {entries[1], entries[2]}) {
        if (!entry.revents) continue;
        UniqueFd socket(::accept4(entry.fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (socket) {
          workers_[next++ % workers_.size()]->begin(std::move(socket));
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
          // It stays ready: without a pause this would spin until somebody closes something.
          pollfd stop{wake_.get(), POLLIN, 0};
          ::poll(&stop, 1, static_cast<int>(accept_pause.count()));
        }
      }
    }
  }

  Shared shared_;
  Listeners listeners_;
  UniqueFd wake_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::thread acceptor_;
  std::mutex stopping_;
};

ReverseProxy::ReverseProxy(Options options) : core_(std::make_unique<Core>(std::move(options))) {}
ReverseProxy::~ReverseProxy() = default;
RouteTable& ReverseProxy::routes() {
  return *core_->shared().options.routes;
}
const Site& ReverseProxy::site() const {
  return core_->shared().site;
}
std::size_t ReverseProxy::connection_count() const {
  return core_->shared().connections;
}
void ReverseProxy::stop(Deadline deadline) {
  core_->stop(deadline);
}

}  // namespace agentvm::proxy
