#pragma once
// Lifecycle events of every machine of a connection.

#include <functional>
#include <memory>
#include <mutex>

#include "vmm/hypervisor.hpp"
#include "vmm/libvirt/handles.hpp"

namespace agentvm::libvirt {

/// Registered from construction to destruction. The callback runs on the event loop's thread; none runs after
/// destruction returned.
class LifecycleEvents {
 public:
  explicit LifecycleEvents(std::shared_ptr<virConnect> connection);
  ~LifecycleEvents();
  LifecycleEvents(const LifecycleEvents&) = delete;
  LifecycleEvents& operator=(const LifecycleEvents&) = delete;
  void set_callback(std::function<void(const Hypervisor::Event&)> callback);

 private:
  struct Sink {
    std::mutex mutex;
    std::function<void(const Hypervisor::Event&)> callback;  // guarded by mutex, which is held while it runs
  };
  static int receive(virConnectPtr, virDomainPtr domain, int event, int detail, void* opaque) noexcept;

  std::shared_ptr<virConnect> connection_;
  std::shared_ptr<Sink> sink_ = std::make_shared<Sink>();
  int registration_ = -1;
};

}  // namespace agentvm::libvirt
