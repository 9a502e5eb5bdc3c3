#include "vmm/libvirt/events.hpp"

#include <exception>
#include <optional>

#include "vmm/base/log.hpp"

namespace agentvm::libvirt {
namespace {

std::optional<Hypervisor::Event::Kind> kind_of(int event, int detail) {
  using Kind = Hypervisor::Event::Kind;
  switch (event) {
    case VIR_DOMAIN_EVENT_STOPPED:
      if (detail == VIR_DOMAIN_EVENT_STOPPED_DESTROYED) return Kind::destroyed;
      if (detail == VIR_DOMAIN_EVENT_STOPPED_CRASHED || detail == VIR_DOMAIN_EVENT_STOPPED_FAILED) return Kind::crashed;
      return Kind::stopped;
    case VIR_DOMAIN_EVENT_CRASHED:
      return Kind::crashed;
    case VIR_DOMAIN_EVENT_SUSPENDED:
      return Kind::paused;
    case VIR_DOMAIN_EVENT_RESUMED:
      return Kind::resumed;
    default:
      return std::nullopt;
  }
}

}  // namespace

LifecycleEvents::LifecycleEvents(std::shared_ptr<virConnect> connection) : connection_(std::move(connection)) {
  auto* opaque = new std::shared_ptr<Sink>(sink_);  // freed by libvirt through the last argument
  const auto release = [](void* pointer) { delete static_cast<std::shared_ptr<Sink>*>(pointer); };
  registration_ =
      virConnectDomainEventRegisterAny(connection_.get(), nullptr, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                                       VIR_DOMAIN_EVENT_CALLBACK(&LifecycleEvents::receive), opaque, release);
  if (registration_ < 0) {
    delete opaque;
    throw_last_error("listening to machines");
  }
}

LifecycleEvents::~LifecycleEvents() {
  set_callback({});
  virConnectDomainEventDeregisterAny(connection_.get(), registration_);
}

void LifecycleEvents::set_callback(std::function<void(const Hypervisor::Event&)> callback) {
  const std::lock_guard lock(sink_->mutex);
  sink_->callback = std::move(callback);
}

int LifecycleEvents::receive(virConnectPtr, virDomainPtr domain, int event, int detail, void* opaque) noexcept {
  try {
    const auto kind = kind_of(event, detail);
    if (!kind) return 0;
    const auto& sink = *static_cast<std::shared_ptr<Sink>*>(opaque);
    const std::lock_guard lock(sink->mutex);
    if (sink->callback) sink->callback({virDomainGetName(domain), *kind});
  } catch (const std::exception& error) {
    log::error("libvirt", "an event was lost: {}", error.what());
  } catch (...) {
    log::error("libvirt", "an event was lost");
  }
  return 0;
}

}  // namespace agentvm::libvirt
