#include "vmm/libvirt/line.hpp"

#include <fmt/format.h>

#include "vmm/base/log.hpp"

namespace agentvm::libvirt {
namespace {

constexpr milliseconds open_limit{30'000}, retry_pause{500};
/// A daemon that is restarted is back within a second or two.
constexpr milliseconds patience{15'000};

}  // namespace

Line::Line(std::string uri, Peer peer, CallPool& pool, Deadline deadline)
    : uri_(std::move(uri)), peer_(peer), pool_(pool) {
  connect(deadline);
  if (peer == Peer::daemon) keeper_ = std::jthread([this](const std::stop_token& stop) { keep(stop); });
}

Line::~Line() {
  on_event({});
  keeper_.request_stop();
  if (keeper_.joinable()) keeper_.join();
  const std::lock_guard lock(mutex_);
  events_.reset();
  if (peer_ == Peer::daemon) virConnectUnregisterCloseCallback(connection_.get(), closed);
}

void Line::connect(Deadline deadline) {
  auto connection = pool_.call("opening " + uri_, deadline, [uri = uri_, peer = peer_, signal = signal_] {
    std::shared_ptr<virConnect> opened(check_libvirt(virConnectOpen(uri.c_str()), "opening " + uri), HandleCloser());
    if (peer == Peer::daemon) {
      auto* opaque = new std::shared_ptr<Signal>(signal);  // freed by libvirt through the last argument
      const auto release = [](void* pointer) { delete static_cast<std::shared_ptr<Signal>*>(pointer); };
      if (virConnectRegisterCloseCallback(opened.get(), closed, opaque, release) < 0) {
        delete opaque;
        throw_last_error("listening to " + uri);
      }
    }
    return opened;
  });
  auto events = std::make_unique<LifecycleEvents>(connection);
  events->set_callback([sink = sink_](const Hypervisor::Event& event) { tell(sink, event); });
  {
    const std::lock_guard lock(mutex_);
    connection_.swap(connection);
    events_.swap(events);
  }
  {
    const std::lock_guard lock(signal_->mutex);
    signal_->lost = false;
  }
  signal_->changed.notify_all();
}

std::shared_ptr<virConnect> Line::get(Deadline deadline) {
  if (peer_ == Peer::daemon) {
    std::unique_lock lock(signal_->mutex);
    const auto until = deadline.sooner(Deadline::after(patience));
    if (!signal_->changed.wait_until(lock, until.at(), [this] { return !signal_->lost; }))
      throw Error(ErrorCode::operation_failed, fmt::format("libvirt's daemon ({}) has gone away", uri_),
                  fmt::format("virsh -c {} list", uri_));
  }
  const std::lock_guard lock(mutex_);
  return connection_;
}

void Line::on_event(std::function<void(const Hypervisor::Event&)> callback) {
  const std::lock_guard lock(sink_->mutex);
  sink_->callback = std::move(callback);
}

void Line::tell(const std::shared_ptr<Sink>& sink, const Hypervisor::Event& event) {
  const std::lock_guard lock(sink->mutex);
  if (sink->callback) sink->callback(event);
}

void Line::closed(virConnectPtr, int, void* opaque) noexcept {
  const auto& signal = *static_cast<std::shared_ptr<Signal>*>(opaque);
  {
    const std::lock_guard lock(signal->mutex);
    signal->lost = true;
  }
  signal->changed.notify_all();
}

void Line::keep(const std::stop_token& stop) {
  for (;;) {
    {
      std::unique_lock lock(signal_->mutex);
      if (!signal_->changed.wait(lock, stop, [this] { return signal_->lost; })) return;
    }
    log::warn("libvirt", "{}: the daemon has gone away; machines go on without it", uri_);
    for (bool back = false; !back;) try {
        connect(Deadline::after(open_limit));
        back = true;
      } catch (const Error& error) {
        log::debug("libvirt", "{}: {}", uri_, error.what());
        std::unique_lock lock(signal_->mutex);
        signal_->changed.wait_for(lock, stop, retry_pause, [] { return false; });
        if (stop.stop_requested()) return;
      }
    log::info("libvirt", "{}: the daemon is back", uri_);
    tell(sink_, {"", Hypervisor::Event::Kind::reconnected});
  }
}

}  // namespace agentvm::libvirt
