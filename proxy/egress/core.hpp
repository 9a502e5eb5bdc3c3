#pragma once
// Inside of the egress proxy: what the connections share. Private: the only header with Asio in it.

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

#include <boost/asio.hpp>

#include "proxy/egress/caps.hpp"
#include "proxy/egress/egress.hpp"
#include "proxy/egress/secrets.hpp"

namespace agentvm::egress {

namespace asio = boost::asio;
using Socket = asio::generic::stream_protocol::socket;

class Connection;

/// Threads that may outlive the proxy post through this.
class Gate {
 public:
  explicit Gate(asio::io_context& io) : io_(&io) {}
  template <class Task>
  void post(Task task) {
    const std::lock_guard lock(mutex_);
    if (io_) asio::post(*io_, std::move(task));
  }
  void close() {
    const std::lock_guard lock(mutex_);
    io_ = nullptr;
  }

 private:
  std::mutex mutex_;
  asio::io_context* io_;  // guarded by mutex_
};

class Egress::Core {
 public:
  explicit Core(Options options);
  ~Core();

  // From any thread.
  void post(std::function<void()> task) { asio::post(io_, std::move(task)); }
  void begin(std::shared_ptr<Socket> client, std::string sandbox);
  void set_policy(const std::string& sandbox, EgressPolicy policy);
  void set_upstream(std::optional<UpstreamProxy> proxy);
  void set_secrets(const std::string& sandbox, std::shared_ptr<const SecretSet> secrets);
  void set_caps(const std::string& sandbox, std::shared_ptr<CapLedger> caps);
  std::shared_ptr<CapLedger> caps(const std::string& sandbox) const;
  void freeze(const std::string& sandbox);
  void thaw(const std::string& sandbox);
  void forget(const std::string& sandbox);
  void stop(Deadline deadline);
  std::size_t connection_count() const { return count_; }
  std::vector<Question> questions(const std::string& sandbox) const;

  // From the proxy's thread.
  asio::io_context& io() { return io_; }
  const Options& options() const { return options_; }
  Verdict decide(const std::string& sandbox, const HostPort& target) const;
  /// The proxy to go through; nullptr for what is reached without one.
  std::shared_ptr<const UpstreamProxy> upstream_for(const HostPort& target) const;
  /// Nothing for a sandbox without any.
  std::shared_ptr<const SecretSet> secrets_of(const std::string& sandbox) const;
  const std::shared_ptr<Gate>& gate() const { return gate_; }
  ResolverPool& resolver() { return *resolver_; }
  bool crowded(const std::string& sandbox) const;
  void add(const std::shared_ptr<Connection>& connection);
  void remove(const Connection& connection);
  /// A place among those who wait for an answer about `rule`; `leave` gives it back.
  Questions::Place hold(const std::string& sandbox, const std::string& rule);
  void leave(const std::string& sandbox, const std::string& rule);
  /// A connection of its sandbox has sent one: all of them end.
  void decoy_was_sent(const Decision& decision);
  void announce(const Decision& decision) const;
  void announce_question(const Decision& decision, Notice notice) const;
  void report(Decision decision) const;

 private:
  bool freeze_now(const std::string& sandbox);

  Options options_;
  asio::io_context io_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  std::unique_ptr<ResolverPool> resolver_;
  std::shared_ptr<Gate> gate_;
  std::map<std::string, EgressPolicy> policies_;
  std::map<std::string, std::shared_ptr<const SecretSet>> secrets_;
  std::set<std::string> frozen_;
  std::shared_ptr<const UpstreamProxy> upstream_;
  std::map<const Connection*, std::shared_ptr<Connection>> connections_;
  std::map<std::string, std::size_t> per_sandbox_;
  mutable std::mutex questions_mutex_;  // status asks from other threads; guards questions_
  std::map<std::string, Questions> questions_;
  mutable std::mutex caps_mutex_;  // likewise; guards caps_
  std::map<std::string, std::shared_ptr<CapLedger>> caps_;
  std::atomic<std::size_t> count_ = 0;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

}  // namespace agentvm::egress
