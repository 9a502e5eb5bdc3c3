#pragma once
// One client: lines in, lines and descriptors out. Lives on the server's io thread; `post` may come from any thread.

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>

#include "cli/manager/call.hpp"
#include "cli/wire/lines.hpp"
#include "cli/wire/messages.hpp"

namespace agentvm::manager {

class Connection;

/// What a connection asks of its server. Called on the io thread.
class ConnectionOwner {
 public:
  virtual ~ConnectionOwner() = default;
  virtual wire::Hello hello() const = 0;
  virtual void request(const std::shared_ptr<Connection>& from, wire::ClientMessage message) = 0;
  virtual void closed(const std::shared_ptr<Connection>& connection) = 0;
};

class Connection final : public Outbox, public std::enable_shared_from_this<Connection> {
 public:
  Connection(boost::asio::io_context& io, UniqueFd socket, PeerCredentials peer, ConnectionOwner& owner);

  /// Says hello and begins to read.
  void start();
  /// Adds a running request, so that later messages and the end of the connection reach it.
  void add(std::uint64_t id, const std::shared_ptr<Call>& call) { calls_[id] = call; }
  bool knows(std::uint64_t id) const { return calls_.contains(id); }
  const std::string& client_version() const { return client_version_; }
  /// Ends it once everything queued was sent, or at once.
  void finish();
  void close();
  /// Whether something waits to be sent.
  bool flushed() const { return queue_.empty(); }

  void post(Json line, std::vector<UniqueFd> fds, Weight weight) override;
  void call_ended(std::uint64_t id) override;
  PeerCredentials peer() const override { return peer_; }

 private:
  struct Outgoing {
    std::string bytes;
    std::vector<UniqueFd> fds;
    std::size_t sent = 0;
  };
  void read();
  void on_readable();
  void on_line(const std::string& line);
  void refuse(const Error& error);
  void enqueue(Outgoing outgoing);
  void write();

  boost::asio::io_context& io_;
  boost::asio::local::stream_protocol::socket socket_;
  boost::asio::steady_timer hello_timer_;
  const PeerCredentials peer_;
  ConnectionOwner& owner_;
  wire::LineBuffer lines_{wire::line_limit_bytes};
  std::string client_version_;  // empty until its hello
  std::map<std::uint64_t, std::weak_ptr<Call>> calls_;
  std::deque<Outgoing> queue_;
  std::atomic<std::size_t> queued_bytes_{0};
  bool writing_ = false, finishing_ = false, closed_ = false;
};

}  // namespace agentvm::manager
