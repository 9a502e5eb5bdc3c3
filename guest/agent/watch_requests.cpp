// The operations "ports", "refs", "sessions" and "nested": what the agent looks at for the host, now or as soon as it
// differs from what the host knows. Nobody tells of a socket that begins to listen, or of a terminal that falls silent:
// they are looked at again and again, but only while a host waits. And "references" and "objects", which are read at
// once.

#include "guest/agent/nested_slice.hpp"
#include "guest/agent/repository_reader.hpp"
#include "guest/agent/server.hpp"
#include "guest/agent/token.hpp"

namespace agentvm::guest::agent {
namespace {

constexpr milliseconds port_pause{500}, session_pause{1'000}, nested_pause{1'000};
constexpr const char* workspace_folder = "workspace";
constexpr const char* cgroup_folder = "sys/fs/cgroup";

SteadyTime now() {
  return std::chrono::steady_clock::now();
}

}  // namespace

void Server::ports(std::uint32_t id, const Json& request) {
  port_waiters_.add(id, request);
  if (!ports_) ports_.emplace(options_.root);
  next_port_look_ = {};
  check_ports();
}

void Server::check_ports() {
  if (port_waiters_.empty()) return;
  if (now() >= next_port_look_) {
    ports_->update();
    next_port_look_ = now() + port_pause;
  }
  port_waiters_.settle(ports_->token(), [this](std::uint32_t id) {
    answer(id, {{"token", ports_->token()}, {"ports", ports_->ports()}});
  });
}

milliseconds Server::port_patience() const {
  return Deadline(next_port_look_).sooner(port_waiters_.next()).remaining();
}

void Server::refs(std::uint32_t id, const Json& request) {
  ref_waiters_.add(id, request);
  if (!refs_) refs_.emplace(options_.root / workspace_folder);
  refs_->look(now());
  check_refs();
}

void Server::check_refs() {
  if (ref_waiters_.empty()) return;
  refs_->take_events(now());
  if (const auto next = refs_->next_look(); next && now() >= *next) refs_->look(now());
  ref_waiters_.settle(refs_->token(), [this](std::uint32_t id) {
    answer(id, {{"token", refs_->token()}, {"whole", refs_->whole()}});
  });
}

milliseconds Server::ref_patience() const {
  const auto next = refs_->next_look();
  return next ? Deadline(*next).sooner(ref_waiters_.next()).remaining() : ref_waiters_.next().remaining();
}

void Server::sessions(std::uint32_t id, const Json& request) {
  session_waiters_.add(id, request);
  if (!sessions_) sessions_.emplace(options_.root);
  next_session_look_ = {};
  check_sessions();
}

void Server::check_sessions() {
  if (session_waiters_.empty()) return;
  if (now() >= next_session_look_) {
    sessions_->update(system_clock().unix_seconds());
    next_session_look_ = now() + session_pause;
  }
  session_waiters_.settle(sessions_->token(), [this](std::uint32_t id) {
    answer(id, {{"token", sessions_->token()}, {"sessions", sessions_->sessions()}});
  });
}

void Server::references(std::uint32_t id, const Json&) {
  answer(id, RepositoryReader(options_.root / workspace_folder).references());
}

void Server::objects(std::uint32_t id, const Json& request) {
  const auto ids = require<std::vector<std::string>>(request, "ids");
  answer(id, RepositoryReader(options_.root / workspace_folder).objects(ids));
}

void Server::nested(std::uint32_t id, const Json& request) {
  nested_waiters_.add(id, request);
  next_nested_look_ = {};
  check_nested();
}

void Server::check_nested() {
  if (nested_waiters_.empty()) return;
  if (now() >= next_nested_look_) {
    nested_state_ = nested_state(options_.root / cgroup_folder);
    next_nested_look_ = now() + nested_pause;
  }
  const auto token = token_of(nested_state_);
  nested_waiters_.settle(token, [&](std::uint32_t id) { answer(id, {{"token", token}, {"nested", nested_state_}}); });
}

milliseconds Server::nested_patience() const {
  return Deadline(next_nested_look_).sooner(nested_waiters_.next()).remaining();
}

milliseconds Server::session_patience() const {
  return Deadline(next_session_look_).sooner(session_waiters_.next()).remaining();
}

}  // namespace agentvm::guest::agent
