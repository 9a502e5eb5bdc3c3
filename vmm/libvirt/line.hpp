#pragma once
// The connection to a libvirt driver. A daemon may be restarted under us (an upgrade does it): the connection is opened
// again by itself, and machines go on meanwhile.

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "vmm/libvirt/call_pool.hpp"
#include "vmm/libvirt/events.hpp"
#include "vmm/libvirt/handles.hpp"

namespace agentvm::libvirt {

/// Thread-safe.
class Line {
 public:
  enum class Peer {
    library,  ///< the driver is in this process: it does not go away
    daemon,
  };
  /// Connects. Throws as libvirt does. `pool` outlives it.
  Line(std::string uri, Peer peer, CallPool& pool, Deadline deadline);
  /// No callback runs after it.
  ~Line();
  Line(const Line&) = delete;
  Line& operator=(const Line&) = delete;

  /// The connection; one that is lost is waited for, for a moment. Throws `operation_failed` where it does not come
  /// back.
  std::shared_ptr<virConnect> get(Deadline deadline);
  /// See `Hypervisor::on_event`.
  void on_event(std::function<void(const Hypervisor::Event&)> callback);

 private:
  /// What libvirt's event loop tells; it may do so after we are gone.
  struct Signal {
    std::mutex mutex;
    std::condition_variable_any changed;
    bool lost = false;  // guarded by mutex
  };
  struct Sink {
    std::mutex mutex;
    std::function<void(const Hypervisor::Event&)> callback;  // guarded by mutex, which is held while it runs
  };
  void connect(Deadline deadline);
  void keep(const std::stop_token& stop);
  static void tell(const std::shared_ptr<Sink>& sink, const Hypervisor::Event& event);
  static void closed(virConnectPtr, int reason, void* opaque) noexcept;

  const std::string uri_;
  const Peer peer_;
  CallPool& pool_;
  const std::shared_ptr<Signal> signal_ = std::make_shared<Signal>();
  const std::shared_ptr<Sink> sink_ = std::make_shared<Sink>();
  std::mutex mutex_;                        // guards the two below
  std::shared_ptr<virConnect> connection_;  // shared with calls that outlive their deadline
  std::unique_ptr<LifecycleEvents> events_;
  std::jthread keeper_;  // of a daemon's connection; last: it uses everything above
};

}  // namespace agentvm::libvirt
