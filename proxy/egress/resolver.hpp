#pragma once
// Names to addresses on the host, on a few threads of their own: getaddrinfo cannot be cancelled.

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "proxy/egress/address.hpp"
#include "vmm/base/clock.hpp"

namespace agentvm::egress {

/// Blocking; empty when there is no such name. May throw.
using Resolve = std::function<std::vector<IpAddress>(const std::string& host)>;
/// getaddrinfo. A host that is an address is that address.
std::vector<IpAddress> resolve_on_host(const std::string& host);
/// The addresses of this host's own interfaces.
std::vector<IpAddress> own_addresses();

class ResolverPool {
 public:
  using Done = std::function<void(std::vector<IpAddress>)>;
  ResolverPool(Resolve resolve, unsigned threads, std::size_t queue_limit);
  /// Does not wait for a lookup that hangs: its thread ends by itself and calls nobody.
  ~ResolverPool();
  /// `done` runs on a thread of the pool, and never after the destructor returned. False when the queue is full.
  bool lookup(std::string host, Done done);

 private:
  struct Job {
    std::string host;
    Done done;
  };
  struct Shared {  // outlives the pool while a lookup hangs
    std::mutex mutex;
    std::condition_variable work;
    std::deque<Job> jobs;   // guarded by mutex
    bool stopping = false;  // guarded by mutex
    Resolve resolve;
  };
  static void run(const std::shared_ptr<Shared>& shared);
  std::shared_ptr<Shared> shared_;
  std::size_t queue_limit_;
};

}  // namespace agentvm::egress
