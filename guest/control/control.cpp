#include "guest/control/control.hpp"

#include <cerrno>
#include <condition_variable>
#include <ctime>
#include <mutex>
#include <thread>

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest/control/nested.hpp"
#include "guest/control/ports.hpp"
#include "guest/control/refs.hpp"
#include "guest/control/repository.hpp"
#include "guest/control/session.hpp"
#include "guest/control/sessions.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/text.hpp"
#include "vmm/base/unix_socket.hpp"

namespace agentvm::guest {
namespace {

/// Longer than the guest's patience with a half frame (300 ms): the repetition finds its parser reset.
constexpr milliseconds hello_pause{500};
/// The guest gives up a little before us, so that its answer says what was not ready.
constexpr milliseconds answer_margin{200};

std::int64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

struct Control::State {
  explicit State(UniqueFd connected)
      : fd(std::move(connected)), wake(check_errno(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")) {
    set_nonblocking(fd.get(), true);
    reader = std::thread([this] { run(); });
  }

  ~State() {
    {
      const std::lock_guard lock(mutex);
      stopping = true;
    }
    poke();
    reader.join();
  }

  void poke() {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto ignored = ::write(wake.get(), &one, sizeof one);
  }

  /// The one thread that touches the descriptor. Ends when the session is lost or the owner goes.
  void run() {
    std::string reason;
    try {
      while (reason.empty()) {
        pollfd entries[2] = {{fd.get(), POLLIN, 0}, {wake.get(), POLLIN, 0}};
        {
          const std::lock_guard lock(mutex);
          if (stopping) return;
          if (!session.outgoing().empty()) entries[0].events |= POLLOUT;
        }
        if (::poll(entries, 2, -1) < 0 && errno != EINTR) throw_errno("poll");
        std::uint64_t count;
        if (entries[1].revents) [[maybe_unused]]
          const auto ignored = ::read(wake.get(), &count, sizeof count);
        if (entries[0].revents & POLLOUT) write_some();
        if (entries[0].revents & (POLLIN | POLLHUP | POLLERR)) read_some_bytes();
        const std::lock_guard lock(mutex);
        reason = session.lost();
      }
    } catch (const std::exception& error) {
      const std::lock_guard lock(mutex);
      session.set_lost(error.what());
      reason = session.lost();
    }
    log::info("control", "agent port: {}", reason);
    ::shutdown(fd.get(), SHUT_RDWR);
    std::function<void(const std::string&)> callback;
    {
      const std::lock_guard lock(mutex);
      finished = true;
      callback.swap(lost_callback);
    }
    changed.notify_all();
    if (callback) callback(reason);
  }

  void write_some() {
    const std::lock_guard lock(mutex);
    const auto& bytes = session.outgoing();
    if (bytes.empty()) return;
    const ssize_t count = ::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count > 0) session.sent(static_cast<std::size_t>(count));
    if (count < 0 && errno != EAGAIN && errno != EINTR) session.set_lost("the machine closed its agent port");
  }

  void read_some_bytes() {
    char buffer[64u << 10];
    const ssize_t count = ::read(fd.get(), buffer, sizeof buffer);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    {
      const std::lock_guard lock(mutex);
      if (count > 0)
        session.receive({buffer, static_cast<std::size_t>(count)});
      else
        session.set_lost("the machine closed its agent port");
      while (const auto event = session.take_event())
        log::info("control", "guest: {}", clean_guest_text(dump_json(*event), Newlines::escape, 512));
    }
    changed.notify_all();
  }

  template <class Done>
  bool wait(std::unique_lock<std::mutex>& lock, Deadline deadline, Done done) {
    if (deadline.remaining() == milliseconds::max()) {
      changed.wait(lock, done);
      return true;
    }
    return changed.wait_until(lock, deadline.at(), done);
  }

  Error lost_error() const {
    return Error(ErrorCode::operation_failed, "the connection to the guest's agent is lost: " + session.lost());
  }

  Reply call(const Json& body, Deadline deadline, const std::string& what, std::size_t limit_bytes = 0,
             const std::string* input = nullptr, std::stop_token stop = {}) {
    const std::stop_callback wake_us(stop, [this] {
      { const std::lock_guard passing(mutex); }  // nobody is between the test of the condition and the wait
      changed.notify_all();
    });
    std::unique_lock lock(mutex);
    const auto id = session.request(body, limit_bytes);
    if (input) session.send_input(id, *input);
    poke();
    const auto over = [&] { return session.look(id)->done || !session.lost().empty() || stop.stop_requested(); };
    const bool in_time = wait(lock, deadline, over);
    if (in_time && session.look(id)->done) {
      auto reply = session.take(id);
      if (reply.error) throw *reply.error;
      return reply;
    }
    session.abandon(id);
    poke();
    if (!session.lost().empty()) throw lost_error();
    if (in_time) throw Error(ErrorCode::cancelled, what + " was cancelled");
    throw Error(ErrorCode::timed_out, "the guest's agent did not finish in time: " + what);
  }

  /// The answer to `op` once its token is another than `known`, or after `patience`.
  Json watch(const char* op, const char* what, const std::string& known, milliseconds patience, std::stop_token stop,
             Deadline deadline) {
    patience = std::max(milliseconds(0), std::min(patience, deadline.remaining() - answer_margin));
    const Json request = {{"op", op}, {"known", known}, {"timeout_ms", patience.count()}};
    return call(request, deadline, what, 0, nullptr, std::move(stop)).body;
  }

  UniqueFd fd, wake;
  mutable std::mutex mutex;  // guards everything below
  std::condition_variable changed;
  Session session{random_hex(16)};
  bool stopping = false, finished = false;
  std::function<void(const std::string&)> lost_callback;
  std::thread reader;
};

std::unique_ptr<Control> Control::connect(const fs::path& socket, Deadline deadline) {
  return std::make_unique<Control>(connect_unix(socket, deadline));
}

Control::Control(UniqueFd fd) : state_(std::make_unique<State>(std::move(fd))) {}
Control::~Control() = default;

Hello Control::hello(Deadline deadline) {
  auto& s = *state_;
  std::unique_lock lock(s.mutex);
  const auto over = [&] { return s.session.hello_reply().has_value() || !s.session.lost().empty(); };
  while (!over()) {
    if (deadline.expired()) throw Error(ErrorCode::timed_out, "the guest's agent does not answer");
    s.session.say_hello();
    s.poke();
    s.wait(lock, deadline.sooner(Deadline::after(hello_pause)), over);
  }
  if (!s.session.lost().empty()) throw s.lost_error();
  const auto& reply = *s.session.hello_reply();
  const auto text = [&](const char* key) {
    return clean_guest_text(value_or<std::string>(reply, key, ""), Newlines::escape, 128);
  };
  if (value_or<int>(reply, "protocol", 0) != protocol_version)
    throw Error(ErrorCode::operation_failed,
                "the guest's agent (" + text("version") + ") speaks another protocol than this version",
                "agentvm image build");
  return {text("version"), text("boot_id"), value_or<std::int64_t>(reply, "uptime_ms", 0),
          text("stage") == "running"   ? Hello::Stage::running
          : text("stage") == "waiting" ? Hello::Stage::waiting
                                       : Hello::Stage::init};
}

void Control::identify(const Identity& identity, Deadline deadline) {
  auto sent = identity;
  if (sent.unix_ns == 0) sent.unix_ns = now_ns();
  state_->call({{"op", "identity"}, {"identity", sent.to_json()}}, deadline, "applying the identity");
}

void Control::freeze(const std::string& nonce, Deadline deadline) {
  state_->call({{"op", "freeze"}, {"nonce", nonce}}, deadline, "getting ready to be saved");
}

ControlResult Control::exec(const ControlExec& spec, Deadline deadline, std::size_t limit_bytes) {
  if (spec.argv.empty()) throw Error(ErrorCode::usage, "no program to run");
  if (spec.input.size() > exec_input_limit_bytes)
    throw Error(ErrorCode::usage,
                fmt::format("standard input over the agent port ends at {} bytes", exec_input_limit_bytes));
  Json body = {{"op", "exec"},    {"argv", spec.argv}, {"env", spec.env},
               {"cwd", spec.cwd}, {"user", spec.user}, {"input", !spec.input.empty()}};
  auto reply =
      state_->call(body, deadline, "running " + spec.argv[0], limit_bytes, spec.input.empty() ? nullptr : &spec.input);
  ControlResult result;
  result.signal = value_or<int>(reply.body, "signaled", 0);
  result.code = result.signal ? 0 : require<int>(reply.body, "exited");
  result.out = std::move(reply.out);
  result.err = std::move(reply.err);
  result.truncated = reply.truncated;
  return result;
}

void Control::wait_until(const std::string& what, Deadline deadline) {
  constexpr milliseconds longest{500'000};
  const auto timeout = std::max(milliseconds(0), std::min(longest, deadline.remaining()) - answer_margin);
  state_->call({{"op", "wait"}, {"what", what}, {"timeout_ms", timeout.count()}}, deadline, "waiting for " + what);
}

GuestPorts Control::ports(const std::string& known, milliseconds patience, std::stop_token stop, Deadline deadline) {
  return parse_guest_ports(state_->watch("ports", "watching ports", known, patience, std::move(stop), deadline));
}

GuestRefs Control::refs(const std::string& known, milliseconds patience, std::stop_token stop, Deadline deadline) {
  return parse_guest_refs(state_->watch("refs", "watching references", known, patience, std::move(stop), deadline));
}

std::optional<GuestReferences> Control::references(std::stop_token stop, Deadline deadline) {
  return parse_guest_references(
      state_->call({{"op", "references"}}, deadline, "reading references", 0, nullptr, std::move(stop)).body);
}

GuestObjects Control::objects(const std::vector<std::string>& ids, std::stop_token stop, Deadline deadline) {
  const Json request = {{"op", "objects"}, {"ids", ids}};
  return parse_guest_objects(state_->call(request, deadline, "reading objects", 0, nullptr, std::move(stop)).body, ids);
}

GuestSessions Control::sessions(const std::string& known, milliseconds patience, std::stop_token stop,
                                Deadline deadline) {
  return parse_guest_sessions(
      state_->watch("sessions", "watching sessions", known, patience, std::move(stop), deadline));
}

GuestNested Control::nested(const std::string& known, milliseconds patience, std::stop_token stop, Deadline deadline) {
  return parse_guest_nested(
      state_->watch("nested", "watching machines within the guest", known, patience, std::move(stop), deadline));
}

std::int64_t Control::time(Deadline deadline) {
  return require<std::int64_t>(state_->call({{"op", "time"}}, deadline, "reading the clock").body, "unix_ns");
}

void Control::set_time(std::int64_t unix_ns, Deadline deadline) {
  state_->call({{"op", "time"}, {"unix_ns", unix_ns}}, deadline, "setting the clock");
}

void Control::sync(Deadline deadline) {
  state_->call({{"op", "sync"}}, deadline, "writing to the disk");
}
void Control::shutdown(milliseconds patience, Deadline deadline) {
  state_->call({{"op", "shutdown"}, {"patience_ms", patience.count()}}, deadline, "powering off");
}

bool Control::alive() const {
  const std::lock_guard lock(state_->mutex);
  return state_->session.lost().empty();
}

std::string Control::lost_reason() const {
  const std::lock_guard lock(state_->mutex);
  return state_->session.lost();
}

void Control::on_lost(std::function<void(const std::string&)> callback) {
  std::unique_lock lock(state_->mutex);
  if (!state_->finished) {
    state_->lost_callback = std::move(callback);
    return;
  }
  const auto reason = state_->session.lost();
  lock.unlock();
  if (callback) callback(reason);
}

}  // namespace agentvm::guest
