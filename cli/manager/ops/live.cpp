#include "cli/manager/ops/live.hpp"

#include "vmm/base/error.hpp"

namespace agentvm::manager {

std::shared_ptr<guest::Streams> LiveSandbox::session_if_alive(Session which) const {
  const std::lock_guard lock(mutex_);
  const auto& session = sessions_[static_cast<int>(which)];
  return session && session->alive() ? session : nullptr;
}

std::shared_ptr<guest::Streams> LiveSandbox::any_session_if_alive() const {
  auto session = session_if_alive(Session::control);
  return session ? session : session_if_alive(Session::data);
}

std::shared_ptr<guest::Streams> LiveSandbox::session(Session which, Deadline deadline) {
  const std::unique_lock dialling(dialling_[static_cast<int>(which)], deadline.at());
  if (auto session = session_if_alive(which)) return session;
  if (!dialling) throw Error(ErrorCode::timed_out, endpoint_.name + ": the guest's ssh is still being connected to");
  std::shared_ptr<guest::Streams> session = guest::connect_ssh(endpoint_, deadline, {}, ending_.get_token());
  std::unique_ptr<guest::Listener> listener;
  if (which == Session::data && on_data_session_) listener = on_data_session_(*session, deadline);
  {
    const std::lock_guard lock(mutex_);
    if (closed_) throw Error(ErrorCode::wrong_state, endpoint_.name + " is being stopped");
    if (which == Session::data) egress_.swap(listener);  // the old one goes after the lock, with its lost session
    sessions_[static_cast<int>(which)].swap(session);
  }
  session = session_if_alive(which);
  if (!session)
    throw Error(ErrorCode::operation_failed, endpoint_.name + ": the connection to the guest was lost at once");
  if (which == Session::data && on_data_lost_) session->on_lost([lost = on_data_lost_](const std::string&) { lost(); });
  return session;
}

void LiveSandbox::set_control(std::shared_ptr<guest::Control> control) {
  const std::lock_guard lock(mutex_);
  control_ = std::move(control);
}

std::shared_ptr<guest::Control> LiveSandbox::control() const {
  const std::lock_guard lock(mutex_);
  return control_;
}

void LiveSandbox::expect_silence(bool silent) {
  silent_ = silent;
  for (const auto which : {Session::control, Session::data})
    if (const auto session = session_if_alive(which)) session->expect_silence(silent);
}

void LiveSandbox::close() {
  end_dialling();
  std::shared_ptr<guest::Streams> sessions[2];
  std::shared_ptr<guest::Control> control;
  std::unique_ptr<guest::Listener> egress;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    std::swap(sessions, sessions_);
    control.swap(control_);
    egress.swap(egress_);
  }
  egress.reset();
}  // the last references go here, outside the lock: closing a session calls back

}  // namespace agentvm::manager
