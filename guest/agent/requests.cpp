// The operations of the protocol: what each request does and which answer it gets. The loop is in server.cpp.

#include <algorithm>
#include <ctime>
#include <map>

#include <unistd.h>

#include "guest/agent/apply.hpp"
#include "guest/agent/console.hpp"
#include "guest/agent/probes.hpp"
#include "guest/agent/server.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::guest::agent {
namespace {

constexpr milliseconds wait_limit{600'000};
constexpr milliseconds probe_pause{250};

std::int64_t clock_ns(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

const char* name_of(Stage stage) {
  return stage == Stage::init ? "init" : stage == Stage::waiting ? "waiting" : "running";
}

}  // namespace

void Server::handle(const Frame& frame) {
  switch (frame.type) {
    case FrameType::request:
      return handle_request(frame);
    case FrameType::input:
      return handle_input(frame);
    case FrameType::window:
      if (auto* job = find_job(frame.id))
        if (const auto bytes = decode_u32(frame.payload)) job->grant(*bytes);
      return;
    case FrameType::cancel:
      return cancel(frame.id);
    default:
      return;  // a frame that only we send: an echo of stale bytes
  }
}

void Server::handle_request(const Frame& frame) {
  try {
    const auto request = parse_json(frame.payload, "request");
    const auto op = require<std::string>(request, "op");
    // Whoever did not say hello is a host that died in the middle of a session, or noise.
    if (op != "hello" && nonce_.empty()) throw Error(ErrorCode::wrong_state, "say hello first");
    dispatch(frame.id, op, request);
  } catch (const Error& error) {
    refuse(frame.id, error);
  } catch (const std::exception& error) {
    refuse(frame.id, Error(ErrorCode::operation_failed, error.what()));
  }
}

void Server::dispatch(std::uint32_t id, const std::string& op, const Json& request) {
  if (op == "hello") return hello(id, request);
  if (op == "identity") return identity(id, request);
  if (op == "freeze") return freeze(id, request);
  if (op == "exec") return start_exec(id, request);
  if (op == "time") {
    const auto unix_ns = value_or<std::int64_t>(request, "unix_ns", 0);
    if (unix_ns != 0 && options_.set_time) options_.set_time(unix_ns);
    return answer(id, {{"unix_ns", clock_ns(CLOCK_REALTIME)}});
  }
  if (op == "ready")
    return answer(id, {{"ssh", holds("ssh")}, {"workspace", holds("workspace")}, {"userspace", userspace_}});
  if (op == "wait") {
    const auto what = require<std::string>(request, "what");
    if (what != "ssh" && what != "workspace" && what != "userspace")
      throw Error(ErrorCode::usage, "'" + what + "' is not one of ssh, workspace, userspace");
    if (waiters_.size() >= waiter_limit) throw Error(ErrorCode::operation_failed, "too many waits at once");
    const milliseconds timeout{
        std::clamp<std::int64_t>(require<std::int64_t>(request, "timeout_ms"), 0, wait_limit.count())};
    waiters_.push_back({id, what, Deadline::after(timeout)});
    return check_waiters();
  }
  using Operation = void (Server::*)(std::uint32_t, const Json&);
  static const std::map<std::string, Operation> of_userspace = {
      {"ports", &Server::ports},           {"refs", &Server::refs},
      {"sessions", &Server::sessions},     {"nested", &Server::nested},
      {"references", &Server::references}, {"objects", &Server::objects}};
  if (const auto found = of_userspace.find(op); found != of_userspace.end()) {
    if (options_.stage == Stage::init)
      throw Error(ErrorCode::wrong_state, op + ": the guest's userspace is not there yet");
    if (options_.stage == Stage::waiting) throw Error(ErrorCode::wrong_state, op + ": the machine is nobody's yet");
    return (this->*found->second)(id, request);
  }
  if (op == "sync") {
    ::sync();
    return answer(id, Json::object());
  }
  if (op == "shutdown") {
    // A host of another version does not say how long it waits.
    constexpr long long unsaid_ms = 20'000, longest_ms = 86'400'000;
    const auto patience = std::clamp(value_or<long long>(request, "patience_ms", unsaid_ms), 0LL, longest_ms);
    answer(id, Json::object());
    if (options_.power_off) options_.power_off(milliseconds(patience));
    return;
  }
  throw Error(ErrorCode::usage, "this guest's agent knows no operation '" + op.substr(0, 64) + "'");
}

void Server::hello(std::uint32_t id, const Json& request) {
  const auto nonce = require<std::string>(request, "nonce");
  if (nonce.empty() || nonce.size() > 64) throw Error(ErrorCode::usage, "hello: a nonce has 1 to 64 characters");
  if (nonce != nonce_) {
    // Frames that were queued for another session would only be garbage to this host. (It repeats hello with the same
    // nonce until we answer: that changes nothing.)
    forget_session();
    nonce_ = nonce;
  }
  answer(id, {{"version", AGENTVM_VERSION},
              {"protocol", protocol_version},
              {"boot_id", options_.boot_id},
              {"nonce", nonce},
              {"uptime_ms", clock_ns(CLOCK_BOOTTIME) / 1'000'000},
              {"stage", name_of(options_.stage)}});
}

/// What is left to do before the machine stands still: whoever goes on from it must find it as it was said to be.
void Server::freeze(std::uint32_t id, const Json& request) {
  if (options_.stage != Stage::waiting) throw Error(ErrorCode::wrong_state, "this machine is no template");
  const auto nonce = require<std::string>(request, "nonce");
  if (nonce.empty() || nonce.size() > 64) throw Error(ErrorCode::usage, "freeze: a nonce has 1 to 64 characters");
  if (port_listens(options_.root, options_.ssh_port) ||
      ::access((options_.root / "etc/ssh/ssh_host_ed25519_key").c_str(), F_OK) == 0)
    throw Error(ErrorCode::operation_failed, "the image starts sshd by itself, with a key that all would share");
  place_file(options_.root, {std::string("/") + template_nonce_file, 0444, 0, 0, nonce + "\n"});
  ::sync();
  answer(id, Json::object());
}

void Server::identity(std::uint32_t id, const Json& request) {
  const auto wanted = Identity::from_json(require<Json>(request, "identity"));
  if (options_.stage == Stage::init) {
    if (identity_applied_ || identity_failed_) throw Error(ErrorCode::wrong_state, "the identity was already applied");
    identity_failed_ = true;  // until proven otherwise: half an identity cannot be applied again
    if (options_.apply) options_.apply(wanted);
    identity_failed_ = false;
    identity_applied_ = true;
    workspace_ = wanted.workspace;
  } else if (options_.stage == Stage::waiting) {
    if (identity_failed_) throw Error(ErrorCode::wrong_state, "an identity could not be applied");
    identity_failed_ = true;
    if (options_.adopt) options_.boot_id = options_.adopt(wanted);
    identity_failed_ = false;
    set_running(wanted.workspace);
  } else if (options_.update) {
    options_.update(wanted);
  }
  answer(id, Json::object());
}

void Server::start_exec(std::uint32_t id, const Json& request) {
  if (options_.stage == Stage::init)
    throw Error(ErrorCode::wrong_state, "exec needs the guest's root file system: send the identity first");
  if (options_.stage == Stage::waiting) throw Error(ErrorCode::wrong_state, "exec: the machine is nobody's yet");
  if (jobs_.size() >= exec_limit)
    throw Error(ErrorCode::operation_failed, fmt::format("{} programs run already", exec_limit));
  if (find_job(id)) throw Error(ErrorCode::usage, "the id is in use");
  jobs_.emplace_back(id, ExecRequest::from_json(request), options_.root);
}

void Server::handle_input(const Frame& frame) {
  auto* job = find_job(frame.id);
  if (!job || job->add_input(frame.payload, frame.flags & frame_flag_end)) return;
  refuse(frame.id, Error(ErrorCode::operation_failed,
                         fmt::format("more than {} bytes of standard input wait to be read", exec_input_limit_bytes)));
  cancel(frame.id);
}

void Server::cancel(std::uint32_t id) {
  jobs_.remove_if([id](const ExecJob& job) { return job.id() == id; });
  std::erase_if(waiters_, [id](const Waiter& waiter) { return waiter.id == id; });
  for (auto* waiters : {&port_waiters_, &ref_waiters_, &session_waiters_, &nested_waiters_}) waiters->cancel(id);
}

ExecJob* Server::find_job(std::uint32_t id) {
  for (auto& job : jobs_)
    if (job.id() == id) return &job;
  return nullptr;
}

void Server::check_waiters() {
  if (probe_)
    if (const auto status = probe_->wait(Deadline::after(milliseconds(0)))) {
      userspace_ = status->ok();
      probe_.reset();
      next_probe_ = std::chrono::steady_clock::now() + probe_pause;
    }
  for (auto waiter = waiters_.begin(); waiter != waiters_.end();) {
    const bool done = holds(waiter->what);
    if (done)
      answer(waiter->id, Json::object());
    else if (waiter->deadline.expired())
      refuse(waiter->id, Error(ErrorCode::timed_out, "the guest's " + waiter->what + " was not ready in time"));
    waiter = done || waiter->deadline.expired() ? waiters_.erase(waiter) : waiter + 1;
  }
}

bool Server::holds(const std::string& what) {
  if (options_.stage == Stage::init) return false;
  if (what == "ssh") return ssh_ready(options_.root, options_.ssh_port);
  if (what == "workspace") return workspace_ready(options_.root, workspace_);
  return userspace_ready();
}

/// Asks systemd, one short process at a time, and only once it can answer; the answer comes with a later call.
bool Server::userspace_ready() {
  if (userspace_ || probe_ || std::chrono::steady_clock::now() < next_probe_) return userspace_;
  if (::access((options_.root / "run/systemd/private").c_str(), F_OK) != 0) return false;
  next_probe_ = std::chrono::steady_clock::now() + probe_pause;
  try {
    ProcessSpec spec;
    spec.argv = {"systemctl", "is-active", "--quiet", "multi-user.target"};
    spec.die_with_parent = true;
    probe_ = Process::spawn(spec);
  } catch (const Error& error) {
    say("cannot ask systemd: {}", error.what());
  }
  return false;
}

}  // namespace agentvm::guest::agent
