#include "cli/client/follow.hpp"

#include <poll.h>

#include "cli/client/signals.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::cli {
namespace {

constexpr milliseconds short_life{2'000};  // a manager that leaves sooner than this, twice, will not stay

/// The answer of one `sync.next`; nothing when a signal came, which is then in `signal`.
std::optional<Json> next(Connection& connection, SignalWatch& signals, const Json& params, Output& output,
                         int& signal) {
  const auto id = connection.next_id();
  connection.send(wire::to_json(wire::ClientMessage{id, "sync.next", params}));
  for (;;) {
    while (auto message = connection.receive(Deadline::after(milliseconds(0)))) {
      using Kind = wire::ServerMessage::Kind;
      if (message->kind == Kind::warning) output.warn(clean_guest_text(message->text, Newlines::keep));
      if (message->id != id && message->id != 0) continue;
      if (message->kind == Kind::error) throw wire::error_from(message->body);
      if (message->kind == Kind::result) return std::move(message->body);
    }
    pollfd entries[2] = {{connection.fd(), POLLIN, 0}, {signals.fd(), POLLIN, 0}};
    ::poll(entries, 2, -1);
    if (const auto number = signals.take()) {
      signal = *number;
      return std::nullopt;  // the closed connection tells the manager
    }
  }
}

}  // namespace

int follow_syncs(const Paths& paths, Json params, std::uint64_t after, const std::function<void(const Json&)>& show,
                 Output& output) {
  SignalWatch signals(SignalWatch::Window::ignore);
  for (int short_lives = 0;;) {
    auto connection = connect_manager(paths, Spawn::allowed);
    const auto begun = std::chrono::steady_clock::now();
    try {
      for (;;) {
        params["after"] = after;
        int signal = 0;
        const auto news = next(connection, signals, params, output, signal);
        if (!news) return signal;
        if (value_or<bool>(*news, "ended", false)) return 0;
        after = require<std::uint64_t>(*news, "sequence");
        show(require<Json>(*news, "outcome"));
      }
    } catch (const ManagerLost&) {
      short_lives = std::chrono::steady_clock::now() - begun < short_life ? short_lives + 1 : 0;
      if (short_lives > 1)
        throw Error(ErrorCode::operation_failed, "the manager ends again and again", "agentvm manager logs");
    } catch (const Error& error) {
      // It stopped between two syncs.
      if (error.code() != ErrorCode::wrong_state) throw;
      return 0;
    }
  }
}

}  // namespace agentvm::cli
