#include "cli/manager/service.hpp"

#include <fmt/format.h>

#include "vmm/base/files.hpp"

namespace agentvm::manager {

void CallContext::check_cancelled() const {
  if (cancelled().stop_requested()) throw Error(ErrorCode::cancelled, "cancelled");
}

void Service::add(std::string method, Lane lane, Handler handler) {
  add_async(std::move(method), lane,
            [handler = std::move(handler)](const std::shared_ptr<Responder>& call, const Json& params) {
              call->respond(handler(*call, params));
            });
}

void Service::add_async(std::string method, Lane lane, AsyncHandler handler, OnRetire on_retire) {
  if (!methods_.try_emplace(method, Method{lane, on_retire, std::move(handler)}).second)
    throw Error(ErrorCode::usage, "the method '" + method + "' is registered twice");
}

const Service::Method* Service::find(const std::string& method) const {
  const auto found = methods_.find(method);
  return found == methods_.end() ? nullptr : &found->second;
}

std::string Service::key_for(const Json& params) const {
  return lane_key_ ? lane_key_(params) : value_or<std::string>(params, "name", "");
}

FileLock acquire_manager_lock(const Paths& paths, milliseconds wait) {
  ensure_private_dir(paths.state);
  try {
    auto lock = FileLock::acquire(paths.manager_lock(), Deadline::after(wait));
    lock.record_pid();
    return lock;
  } catch (Error& error) {
    error.while_doing("becoming the manager of " + paths.state.string());
    if (error.code() == ErrorCode::timed_out) error.with_hint("agentvm manager stop");
    throw;
  }
}

}  // namespace agentvm::manager
