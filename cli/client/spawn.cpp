// A manager where none answers: lock, look again, start, wait with doubling pauses. And the hand-over between versions.

#include <cstdlib>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "cli/client/connection.hpp"
#include "vmm/base/file_lock.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/process.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::cli {
namespace {

constexpr milliseconds answer_limit{10'000};   // connect and hello of a manager that lives
constexpr milliseconds overall_limit{30'000};  // includes the 10 s that a new manager waits for the old one's lock
constexpr milliseconds first_pause{5}, longest_pause{320};
constexpr std::size_t log_tail_bytes = 2048;
constexpr std::size_t address_limit_bytes = 4096;  // PATH_MAX

fs::path manager_program(const Paths& paths) {
  return paths.libexec / "agentvm-manager";
}

std::optional<Connection> try_connect_at(const Paths& paths, Deadline deadline) {
  try {
    return Connection(paths, Deadline::after(answer_limit).sooner(deadline));
  } catch (const ManagerLost&) {
    return std::nullopt;
  } catch (const Error& error) {
    if (error.code() == ErrorCode::not_found) return std::nullopt;
    throw;
  }
}

/// Nothing when nobody listens, or when whoever listened was just leaving. A manager that was started where the runtime
/// folder is another one (a login session's, while cron's have none) is found by what it wrote down.
std::optional<Connection> try_connect(const Paths& paths, Deadline deadline) {
  if (auto connection = try_connect_at(paths, deadline)) return connection;
  const fs::path written = read_file_if_exists(paths.manager_address(), address_limit_bytes).value_or("");
  if (written.empty() || written == paths.manager_socket() || written.filename() != paths.manager_socket().filename())
    return std::nullopt;
  auto there = paths;
  there.runtime = written.parent_path();
  return try_connect_at(there, deadline);
}

std::string log_tail(const Paths& paths) {
  auto tail = read_tail(paths.manager_log(), log_tail_bytes);
  // Whole lines, and the last few of them.
  int lines = 0;
  std::size_t start = tail.size();
  while (start > 0 && lines < 6)
    if (tail[--start] == '\n' && start + 1 < tail.size()) ++lines;
  tail = tail.substr(start > 0 || tail.starts_with("\n") ? start + 1 : 0);
  return clean_guest_text(tail, Newlines::keep);
}

[[noreturn]] void did_not_start(const Paths& paths, const std::string& reason) {
  const auto tail = log_tail(paths);
  throw Error(ErrorCode::operation_failed,
              fmt::format("the manager did not start: {}; its log is {}{}", reason, paths.manager_log().string(),
                          tail.empty() ? " (empty)" : ", which ends:\n" + tail),
              "agentvm manager run --foreground");
}

Process start_manager(const Paths& paths) {
  ProcessSpec spec;
  spec.argv = {manager_program(paths).string()};
  spec.env = manager_environment();
  spec.cwd = "/";
  spec.new_session = true;
  const auto log = open_file(paths.manager_log(), O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW);
  spec.fds[1] = log.get();
  spec.fds[2] = log.get();
  return Process::spawn(spec);
}

Connection wait_until_up(const Paths& paths, Process& process, Deadline deadline) {
  for (auto pause = first_pause;; pause = std::min(pause * 2, longest_pause)) {
    if (auto connection = try_connect(paths, deadline)) return std::move(*connection);
    if (const auto status = process.wait(Deadline::after(pause))) {
      // Somebody may have started one by hand at the same moment; ours then gave up the lock.
      if (auto connection = try_connect(paths, deadline)) return std::move(*connection);
      did_not_start(paths, status->describe());
    }
    if (deadline.expired()) {
      process.detach();
      did_not_start(paths, fmt::format("it does not answer after {} s", overall_limit.count() / 1000));
    }
  }
}

bool is_ours(const Connection& connection, const Paths& paths) {
  if (connection.manager().version != AGENTVM_VERSION) return false;
  const auto build = wire::build_identity(manager_program(paths).string());
  return build.empty() || connection.manager().build.empty() || build == connection.manager().build;
}

/// Asks a manager of another version to leave. False when it stays because it is at work and has our version, only
/// another build.
bool retire(Connection& connection, Deadline deadline) {
  const bool same_version = connection.manager().version == AGENTVM_VERSION;
  try {
    connection.send(wire::to_json(wire::ClientMessage{connection.next_id(), "manager.retire", Json::object()}));
    while (auto message = connection.receive(deadline)) {
      if (message->kind == wire::ServerMessage::Kind::result) return true;
      if (message->kind != wire::ServerMessage::Kind::error) continue;
      if (same_version) return false;
      throw wire::error_from(message->body)
          .while_doing(fmt::format("replacing the manager of version {}", connection.manager().version));
    }
  } catch (const ManagerLost&) {
    return true;
  }
  throw Error(ErrorCode::timed_out,
              fmt::format("the manager of version {} (pid {}) does not leave", connection.manager().version,
                          connection.manager().pid),
              "agentvm manager stop");
}

}  // namespace

std::map<std::string, std::string> manager_environment() {
  constexpr const char* names[] = {
      "AGENTVM_HOME", "AGENTVM_CONFIG", "AGENTVM_LOG", "HOME", "PATH", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ",
      "TMPDIR", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "http_proxy",
      "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
      // What the user's own commands (notify, env.commands) find the desktop and the password manager by.
      "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY", "GNUPGHOME", "PASSWORD_STORE_DIR",
      // Whom this host believes, when secrets are sent.
      "SSL_CERT_FILE", "SSL_CERT_DIR",
      // The guest's npm and its certificate store follow the host's.
      "npm_config_registry", "NPM_CONFIG_REGISTRY", "npm_config_cafile", "NODE_EXTRA_CA_CERTS", "ASAN_OPTIONS",
      "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS"};
  std::map<std::string, std::string> result;
  for (const char* name : names)
    if (const char* value = std::getenv(name)) result[name] = value;
  return result;
}

Connection connect_manager(const Paths& paths, Spawn spawn) {
  const auto deadline = Deadline::after(overall_limit);
  auto connection = try_connect(paths, deadline);
  if (spawn == Spawn::never) {
    if (!connection) throw Error(ErrorCode::not_found, "no manager is running");
    return std::move(*connection);
  }
  if (connection && (is_ours(*connection, paths) || !retire(*connection, deadline))) return std::move(*connection);
  connection.reset();
  ensure_private_dir(paths.state);
  // One client starts a manager, the others wait here and then find it.
  const auto lock = FileLock::acquire(paths.state / "spawn.lock", deadline);
  if (connection = try_connect(paths, deadline); connection) return std::move(*connection);
  auto process = start_manager(paths);
  auto result = wait_until_up(paths, process, deadline);
  process.detach();
  return result;
}

}  // namespace agentvm::cli
