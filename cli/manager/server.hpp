#pragma once
// The loop of the manager: accepts clients, sends requests to their lanes, and ends in order.

#include <set>

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>

#include "cli/manager/connection.hpp"

namespace agentvm::manager {

class Server final : public ConnectionOwner {
 public:
  Server(Service& service, const ManagerOptions& options);
  /// Until stopped. False when requests did not end within the limit: threads may still run then.
  bool run();

 private:
  using Strand = boost::asio::strand<boost::asio::thread_pool::executor_type>;
  struct InFlight {
    std::weak_ptr<Call> call;
    std::weak_ptr<Connection> connection;
  };

  // ConnectionOwner
  wire::Hello hello() const override;
  void request(const std::shared_ptr<Connection>& from, wire::ClientMessage message) override;
  void closed(const std::shared_ptr<Connection>& connection) override;

  void listen();
  /// A logout takes the user's runtime folder along, and a cleaner of old files may take the socket: sandboxes that run
  /// keep us here, so the name must come back.
  void keep_listening();
  void accept();
  void accepted(UniqueFd socket);
  bool builtin(const std::shared_ptr<Connection>& from, const wire::ClientMessage& message,
               const std::shared_ptr<Call>& call);
  std::shared_ptr<Call> begin(const std::shared_ptr<Connection>& from, std::uint64_t id, OnRetire on_retire,
                              bool counted);
  void dispatch(const Service::Method& method, std::shared_ptr<Call> call, Json params);
  void run_on_sandbox_lane(const Service::Method& method, const std::shared_ptr<Call>& call, Json params);
  void status(const std::shared_ptr<Call>& call);

  void retire(const std::shared_ptr<Call>& call);
  void wait_for_retirement(const std::shared_ptr<Call>& call, Deadline deadline);
  void stop(const std::string& reason);
  void wait_for_calls(Deadline deadline);
  void flush(Deadline deadline);
  void watch_idleness();
  void judge_idleness(bool busy);
  /// Counted calls that are not answered yet; of those that must finish with `only_finish`.
  std::size_t in_flight(bool only_finish);
  /// Calls that their clients start again by themselves: their connection just ends.
  void drop_interruptible();
  void after(milliseconds span, std::function<void()> callback);

  Service& service_;
  const ManagerOptions options_;
  const std::string build_;
  const SteadyTime started_ = std::chrono::steady_clock::now();
  boost::asio::io_context io_{1};
  boost::asio::local::stream_protocol::acceptor acceptor_{io_};
  boost::asio::signal_set signals_{io_};
  boost::asio::steady_timer idle_timer_{io_};
  boost::asio::thread_pool quick_, work_;
  Strand entrance_;  // finds out which sandbox a request is for, one by one: the order of arrival becomes the lane's
  // Io thread only.
  std::set<std::shared_ptr<Connection>> connections_;
  SteadyTime idle_since_ = started_;
  std::pair<dev_t, ino_t> socket_;  // what we bound
  bool accepting_ = false, retiring_ = false, stopping_ = false, overdue_ = false;
  // Any thread.
  std::mutex mutex_;  // guards the two below
  std::map<std::uint64_t, InFlight> calls_;
  std::map<std::string, std::weak_ptr<Strand>> strands_;
  std::uint64_t next_serial_ = 0;  // io thread only
};

}  // namespace agentvm::manager
