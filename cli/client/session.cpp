#include "cli/client/session.hpp"

#include <csignal>

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include "cli/client/pump.hpp"
#include "cli/client/signals.hpp"
#include "cli/client/terminal.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::cli {
namespace {

constexpr int own_failure = 125;
constexpr int patience_signals = 3;  // that many Ctrl-C within `patience` end the client
constexpr milliseconds patience{3'000};
constexpr milliseconds drain_limit{5'000};  // without a byte after the process ended
constexpr milliseconds tick{100};

class Session {
 public:
  Session(Connection& connection, std::uint64_t id, SessionOptions options, Output& output)
      : connection_(connection), id_(id), options_(options), output_(output), signals_(SignalWatch::Window::watch) {}

  SessionEnd run() {
    while (!answered_ && !end_.lost) {
      try {
        step();
      } catch (const ManagerLost&) {
        if (!begun_) throw;
        end_.lost = true;
      }
    }
    finish_output();
    return std::move(end_);
  }

 private:
  bool terminal() const { return options_.mode == SessionOptions::Mode::terminal; }

  void step() {
    while (auto message = connection_.receive(Deadline::after(milliseconds(0)))) {
      on_message(*message);
      if (answered_) return;
    }
    pollfd entries[3] = {
        {connection_.fd(), POLLIN, 0}, {signals_.fd(), POLLIN, 0}, {pump_ ? pump_->event_fd() : -1, POLLIN, 0}};
    ::poll(entries, 3, -1);
    if (entries[1].revents) on_signals();
    if (entries[2].revents) check_output();
  }

  void on_message(wire::ServerMessage& message) {
    using Kind = wire::ServerMessage::Kind;
    if (message.id != id_ && message.id != 0) return;
    switch (message.kind) {
      case Kind::progress:
        if (!pump_) output_.progress(message.progress);
        break;
      case Kind::warning:
        output_.warn(clean_guest_text(message.text, Newlines::keep));
        break;
      case Kind::streams:
        begin(connection_.take_fds(message.count));
        break;
      case Kind::ended:
        end_.status = std::move(message.body);
        finish_output();  // what follows is ours again: the terminal, too
        break;
      case Kind::result:
        end_.result = std::move(message.body);
        answered_ = true;
        break;
      case Kind::error:
        // What the guest wrote comes first, then the reason.
        finish_output();
        throw wire::error_from(message.body);
    }
  }

  void begin(std::vector<UniqueFd> fds) {
    if (begun_ || fds.empty() || fds.size() > 2)
      throw Error(ErrorCode::operation_failed, "the manager sent streams that were not asked for");
    begun_ = true;
    output_.clear_progress();
    UniqueFd err = fds.size() == 2 ? std::move(fds[1]) : UniqueFd();
    if (terminal()) {
      raw_.emplace();
      send_size();  // it may have changed while we waited
    }
    const auto sink = options_.mode == SessionOptions::Mode::captured ? Pump::Sink::capture : Pump::Sink::stdio;
    pump_.emplace(std::move(fds[0]), std::move(err), sink, options_.input);
  }

  void send(const char* method, Json params) {
    connection_.send(wire::to_json(wire::ClientMessage{id_, method, std::move(params)}));
  }

  void send_size() {
    const auto size = terminal_size();
    send("resize", {{"columns", size.columns}, {"rows", size.rows}});
  }

  void on_signals() {
    while (const auto number = signals_.take()) {
      if (*number == SIGWINCH || *number == SIGCONT) {
        if (!terminal() || !pump_) continue;
        if (*number == SIGCONT && raw_) raw_->again();
        send_size();
      } else if (!pump_) {
        // Nothing runs yet: as for any other request.
        if (std::exchange(cancelling_, true)) leave(*number);
        send("cancel", Json::object());
      } else if (terminal() || !options_.input) {
        leave(*number);  // sent to us from outside: keys arrive as bytes. Or there is no process to tell
      } else {
        forward(*number);
      }
    }
  }

  void forward(int number) {
    const auto now = std::chrono::steady_clock::now();
    if (number != last_signal_ || now - last_signal_at_ > patience) repeated_ = 0;
    last_signal_ = number;
    last_signal_at_ = now;
    if (++repeated_ >= patience_signals) leave(number);
    send("signal", {{"name", signal_name(number)}});
  }

  [[noreturn]] void leave(int number) {
    raw_.reset();
    output_.clear_progress();
    ::_exit(signal_exit_base + number);
  }

  /// Our output cannot be written any more.
  void check_output() {
    const auto state = pump_->state();
    if (state.reader_gone) {
      // Like any program in a pipe. The closed connection makes the manager hang up the guest process.
      raw_.reset();
      end_by_sigpipe();
    }
    if (state.write_error) {
      raw_.reset();
      throw_errno("writing the guest's output", state.write_error);
    }
  }

  void finish_output() {
    if (!pump_) return;
    pump_->stop_input();
    auto last_bytes = pump_->state().bytes_out;
    auto quiet_since = std::chrono::steady_clock::now();
    for (;;) {
      check_output();
      const auto state = pump_->state();
      if (state.output_done) break;
      const auto now = std::chrono::steady_clock::now();
      if (state.bytes_out != last_bytes || state.waiting_in_write) {
        last_bytes = state.bytes_out;
        quiet_since = now;
      }
      if (now - quiet_since > drain_limit) {
        output_.warn("the process ended but its output did not: something in the guest still holds it open");
        break;
      }
      pollfd entries[2] = {{pump_->event_fd(), POLLIN, 0}, {signals_.fd(), POLLIN, 0}};
      ::poll(entries, 2, static_cast<int>(tick.count()));
      if (entries[1].revents)
        while (const auto number = signals_.take())
          if (*number != SIGWINCH && *number != SIGCONT) leave(*number);
    }
    check_output();
    pump_->join();
    end_.out = std::move(pump_->out);
    end_.err = std::move(pump_->err);
    end_.cut = pump_->cut;
    pump_.reset();
    raw_.reset();
  }

  Connection& connection_;
  const std::uint64_t id_;
  const SessionOptions options_;
  Output& output_;
  SignalWatch signals_;
  std::optional<RawTerminal> raw_;
  std::optional<Pump> pump_;
  SessionEnd end_;
  bool begun_ = false, answered_ = false, cancelling_ = false;
  int last_signal_ = 0, repeated_ = 0;
  SteadyTime last_signal_at_{};
};

}  // namespace

SessionEnd run_session(Connection& connection, const std::string& method, const Json& params, SessionOptions options,
                       Output& output) {
  ::signal(SIGPIPE, SIG_IGN);
  const auto id = connection.next_id();
  Session session(connection, id, options, output);
  connection.send(wire::to_json(wire::ClientMessage{id, method, params}));
  return session.run();
}

int guest_exit_code(const Json& status) {
  if (!status.is_object()) return own_failure;
  const auto kind = value_or<std::string>(status, "kind", "lost");
  if (kind == "exited") return value_or<int>(status, "code", own_failure) & 0xFF;
  if (kind == "signaled") {
    const int number = signal_number(value_or<std::string>(status, "signal", ""));
    return signal_exit_base + (number ? number : SIGKILL);
  }
  return own_failure;
}

}  // namespace agentvm::cli
