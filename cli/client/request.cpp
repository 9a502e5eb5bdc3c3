#include "cli/client/request.hpp"

#include <cstdlib>
#include <filesystem>

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include "cli/client/signals.hpp"
#include "vmm/base/text.hpp"
#include "vmm/config.hpp"

namespace agentvm::cli {
namespace {

/// Cancels at the first signal; ends the process at the second.
class Canceller {
 public:
  Canceller(Connection& connection, std::uint64_t id, Output& output)
      : connection_(connection), id_(id), output_(output) {}

  void on_signals(SignalWatch& signals) {
    while (const auto number = signals.take()) {
      if (asked_) {
        output_.clear_progress();
        ::_exit(signal_exit_base + *number);
      }
      asked_ = true;
      output_.say("cancelling; once more to stop waiting for it");
      connection_.send(wire::to_json(wire::ClientMessage{id_, "cancel", Json::object()}));
    }
  }

 private:
  Connection& connection_;
  const std::uint64_t id_;
  Output& output_;
  bool asked_ = false;
};

Error lost(const std::string& method) {
  return Error(ErrorCode::operation_failed, fmt::format("the manager ended while it worked on '{}'", method),
               "agentvm manager logs");
}

}  // namespace

Json call_manager(Connection& connection, const std::string& method, const Json& params, Output& output) {
  SignalWatch signals(SignalWatch::Window::ignore);
  const auto id = connection.next_id();
  connection.send(wire::to_json(wire::ClientMessage{id, method, params}));
  Canceller canceller(connection, id, output);
  for (;;) {
    // A message may be buffered already, in which case the socket stays silent.
    auto message = connection.receive(Deadline::after(milliseconds(0)));
    if (!message) {
      pollfd entries[2] = {{connection.fd(), POLLIN, 0}, {signals.fd(), POLLIN, 0}};
      ::poll(entries, 2, -1);
      if (entries[1].revents) canceller.on_signals(signals);
      continue;
    }
    using Kind = wire::ServerMessage::Kind;
    if (message->id != id && message->id != 0) continue;
    if (message->kind == Kind::progress) output.progress(message->progress);
    if (message->kind == Kind::warning) output.warn(clean_guest_text(message->text, Newlines::keep));
    if (message->kind == Kind::result || message->kind == Kind::error) output.clear_progress();
    if (message->kind == Kind::result) return std::move(message->body);
    if (message->kind == Kind::error) throw wire::error_from(message->body);
  }
}

Json call_manager(const Paths& paths, const std::string& method, const Json& params, Output& output) {
  for (int attempt = 1;; ++attempt) {
    auto connection = connect_manager(paths, Spawn::allowed);
    const auto begun = std::chrono::steady_clock::now();
    try {
      return call_manager(connection, method, params, output);
    } catch (const ManagerLost&) {
      // It was leaving as we came. After longer than that, the request may have had effects: the user decides.
      if (attempt > 1 || std::chrono::steady_clock::now() - begun > milliseconds(500)) throw lost(method);
    }
  }
}

Json request_params() {
  Json env = Json::object();
  const auto take = [&](const std::string& name) {
    if (const char* value = name.empty() ? nullptr : std::getenv(name.c_str()); value && *value) env[name] = value;
  };
  for (const char* name : {"AGENTVM_HOME", "AGENTVM_CONFIG", "AGENTVM_BACKEND", "HOME"}) take(name);
  for (const auto& key : config_keys()) take(std::string(key.variable));
  std::error_code problem;
  const auto cwd = std::filesystem::current_path(problem);
  if (problem)
    throw Error(ErrorCode::not_found, "the working directory does not exist any more: " + problem.message(), "cd");
  return {{"cwd", cwd.string()}, {"env", std::move(env)}};
}

Json listed_names(std::string_view text) {
  auto names = Json::array();
  for (std::size_t start = 0; start <= text.size();) {
    const auto end = std::min(text.find(',', start), text.size());
    if (end > start) names.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return names;
}

}  // namespace agentvm::cli
