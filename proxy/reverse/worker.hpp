#pragma once
// One thread of the reverse proxy and its connections. Private, like everything that includes it: Asio is in here.

#include <atomic>
#include <list>
#include <map>
#include <thread>

#include <boost/asio.hpp>

#include "proxy/reverse/reverse.hpp"

namespace agentvm::proxy {

namespace asio = boost::asio;
using boost::system::error_code;
using Tcp = asio::ip::tcp;
// Named, where Asio's defaults would hide it behind a type-erased one on every step.
using Executor = asio::io_context::executor_type;
template <class T>
using awaitable = asio::awaitable<T, Executor>;
using Socket = asio::basic_stream_socket<asio::generic::stream_protocol, Executor>;
using Timer =
    asio::basic_waitable_timer<std::chrono::steady_clock, asio::wait_traits<std::chrono::steady_clock>, Executor>;

class Connection;
class TlsContext;

/// What the workers share.
struct Shared {
  Options options;
  Site site;
  std::shared_ptr<const TlsContext> tls;  // null: plain
  std::atomic<std::size_t> connections = 0;
};

class Worker {
 public:
  using Waiting = std::list<Connection*>;

  /// `share`: how many workers there are; each gets its part of the limits.
  Worker(Shared& shared, unsigned index, std::size_t share, std::size_t connection_limit);
  ~Worker();

  // From any thread.
  /// `same_port`: the guest's number that it came in at; 0: the site's port.
  void begin(UniqueFd socket, std::uint16_t same_port);
  /// Every connection ends; the thread runs out of work.
  void stop();
  /// False when it did not end in time and had to be stopped.
  bool join(Deadline deadline);
  std::shared_ptr<asio::io_context> io() const { return io_; }

  // From the worker's thread.
  Shared& shared() { return shared_; }
  const Limits& limits() const { return shared_.options.limits; }
  /// A connection waits for its request: the first in the list gives way when places run out.
  Waiting::iterator wait(Connection& connection) { return waiting_.insert(waiting_.end(), &connection); }
  void served(Waiting::iterator place) { waiting_.erase(place); }
  /// False when the sandbox has as many connections as it may.
  bool take_upstream(const std::string& sandbox);
  void give_upstream(const std::string& sandbox);
  void remove(const Connection& connection);

 private:
  void begin_here(UniqueFd fd, std::uint16_t same_port);
  void sweep();
  Shared& shared_;
  const std::size_t connection_limit_, upstream_limit_;
  std::shared_ptr<asio::io_context> io_ = std::make_shared<asio::io_context>(1);
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  Timer sweeper_;
  bool sweeping_ = false, stopping_ = false;
  std::map<const Connection*, std::shared_ptr<Connection>> connections_;
  Waiting waiting_;
  std::map<std::string, std::size_t> upstreams_;
  std::thread thread_;
};

}  // namespace agentvm::proxy
