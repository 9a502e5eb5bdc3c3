#include "proxy/reverse/reverse.hpp"

#include <algorithm>
#include <optional>

#include <fmt/format.h>
#include <sys/resource.h>

#include "proxy/reverse/acceptor.hpp"
#include "proxy/reverse/tls.hpp"
#include "proxy/reverse/worker.hpp"
#include "proxy/route/same_port.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/log.hpp"

namespace agentvm::proxy {
namespace {

constexpr unsigned worker_limit = 8;
/// Throws when it is taken or not allowed.
Listener listen_on_loopback(std::uint16_t& port) {
  auto listener = Listener::open(port);
  if (listener.error == 0) return listener;
  throw Error(
      ErrorCode::host_lacks,
      listener.error == EADDRINUSE
          ? fmt::format("port {} of {}, where the dev servers would be, is taken by another program", port,
                        listener.where)
          : fmt::format("listening on {}:{} for the dev servers: {}", listener.where, port, errno_text(listener.error)),
      "agentvm config show");
}

std::size_t connection_limit(const Options& options) {
  constexpr rlim_t descriptors_each = 4;  // the client, both ends of an ssh channel's pair, and room for others
  const rlim_t listeners = options.same_port == SamePort::on ? 2 * same_port_limit : 0;
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  const auto left = files.rlim_cur - std::min(files.rlim_cur, listeners);
  return std::min<std::size_t>(options.limits.connections, std::max<rlim_t>(64, left / descriptors_each));
}

}  // namespace

class ReverseProxy::Core {
 public:
  explicit Core(Options options) {
    shared_.options = std::move(options);
    shared_.site = shared_.options.site;
    shared_.site.scheme = shared_.options.authority ? Scheme::https : Scheme::http;
    if (shared_.options.authority) shared_.tls = std::make_shared<TlsContext>(shared_.options.authority);
    auto listener = listen_on_loopback(shared_.site.port);
    unsigned count = shared_.options.workers;
    if (count == 0) count = std::clamp(std::thread::hardware_concurrency(), 1u, worker_limit);
    const auto limit = connection_limit(shared_.options);
    for (unsigned i = 0; i < count; ++i) workers_.push_back(std::make_unique<Worker>(shared_, i, count, limit));
    acceptor_ = std::make_unique<Acceptor>(std::move(listener), [this](UniqueFd socket, std::uint16_t same_port) {
      workers_[next_++ % workers_.size()]->begin(std::move(socket), same_port);
    });
    if (shared_.options.same_port == SamePort::off) return;
    same_ports_.emplace(shared_.site.port,
                        SamePorts::Host{.open = [this](std::uint16_t number) { return acceptor_->open(number); },
                                        .close = [this](std::uint16_t number) { acceptor_->close(number); }});
  }
  ~Core() { stop(Deadline::after(milliseconds(2000))); }

  Shared& shared() { return shared_; }
  const Shared& shared() const { return shared_; }

  void follow_ports(Routes& routes) {
    const std::lock_guard lock(following_);
    if (same_ports_) same_ports_->follow(routes);
  }

  void stop(Deadline deadline) {
    const std::lock_guard lock(stopping_);
    acceptor_->stop();
    for (auto& worker : workers_) worker->stop();
    for (auto& worker : workers_)
      if (!worker->join(deadline)) log::warn("proxy", "a connection did not end in time");
    workers_.clear();
  }

 private:
  Shared shared_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::size_t next_ = 0;  // the acceptor's alone
  std::unique_ptr<Acceptor> acceptor_;
  std::mutex following_;  // guards same_ports_
  std::optional<SamePorts> same_ports_;
  std::mutex stopping_;
};

ReverseProxy::ReverseProxy(Options options) : core_(std::make_unique<Core>(std::move(options))) {}
ReverseProxy::~ReverseProxy() = default;
RouteTable& ReverseProxy::routes() {
  return *core_->shared().options.routes;
}
void ReverseProxy::follow_ports(Routes& routes) {
  core_->follow_ports(routes);
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
