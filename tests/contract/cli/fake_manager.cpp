// Stands where agentvm-manager stands: the product's server with operations that need no machine. Guest processes are
// processes of this host. What it does differently on demand is told by files below AGENTVM_HOME, as a test has no
// other way to reach it: "fake-version", "fake-busy", "fake-never-listen".

#include <csignal>
#include <cstdlib>
#include <iostream>

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/manager/service.hpp"
#include "tests/support/stand_in_manager.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/process.hpp"

namespace {

using namespace agentvm;
using manager::CallContext;
using manager::Lane;
using manager::OnRetire;
using manager::Responder;

int number_of(const std::string& signal) {
  const std::map<std::string, int> numbers = {{"INT", SIGINT}, {"TERM", SIGTERM}, {"HUP", SIGHUP}, {"QUIT", SIGQUIT}};
  const auto found = numbers.find(signal);
  return found == numbers.end() ? 0 : found->second;
}

Json status_of(const ExitStatus& status) {
  if (!status.signal) return {{"kind", "exited"}, {"code", status.code}};
  return {{"kind", "signaled"},
          {"signal", status.signal == SIGTERM  ? "TERM"
                     : status.signal == SIGINT ? "INT"
                                               : "KILL"}};
}

/// Bytes both ways between a pty and a socket until the pty ends.
void relay(int pty, int socket) {
  std::vector<char> buffer(65536);
  bool reading = true;
  for (;;) {
    pollfd entries[2] = {{pty, POLLIN, 0}, {reading ? socket : -1, POLLIN, 0}};
    if (::poll(entries, 2, -1) < 0) continue;
    if (entries[0].revents) {
      const ssize_t count = ::read(pty, buffer.data(), buffer.size());
      if (count <= 0) return;  // EIO: nobody has the other end open any more
      write_all(socket, {buffer.data(), static_cast<std::size_t>(count)}, Deadline::never());
    }
    if (reading && entries[1].revents) {
      const ssize_t count = ::read(socket, buffer.data(), buffer.size());
      if (count <= 0)
        reading = false;
      else
        write_all(pty, {buffer.data(), static_cast<std::size_t>(count)}, Deadline::never());
    }
  }
}

/// One guest process: runs, follows messages and cancelling, answers when it has ended.
void run_process(const std::shared_ptr<Responder>& call, const Json& params, std::vector<std::string> argv) {
  const bool tty = value_or<bool>(params, "tty", false);
  auto io = make_socketpair();
  FdPair err;
  ProcessSpec spec;
  spec.argv = std::move(argv);
  for (const auto& [name, value] : value_or<std::map<std::string, std::string>>(params, "guest_env", {})) {
    if (!spec.env) spec.env = std::map<std::string, std::string>{{"PATH", "/usr/bin:/bin"}};
    (*spec.env)[name] = value;
  }
  int controller = -1;
  UniqueFd terminal;
  if (tty) {
    winsize size{static_cast<unsigned short>(value_or<int>(params, "rows", 24)),
                 static_cast<unsigned short>(value_or<int>(params, "columns", 80)), 0, 0};
    int raw = -1;
    check_errno(::openpty(&controller, &raw, nullptr, nullptr, &size), "openpty");
    ::fcntl(controller, F_SETFD, FD_CLOEXEC);
    terminal.reset(raw);
    spec.fds = {{0, raw}, {1, raw}, {2, raw}};
    spec.new_session = true;
    spec.in_child = [] { return ::ioctl(0, TIOCSCTTY, 0) < 0 ? errno : 0; };
  } else {
    err = make_pipe();
    spec.fds = {{0, io.second.get()}, {1, io.second.get()}, {2, err.second.get()}};
  }
  auto process = std::make_shared<Process>(Process::spawn(spec));
  terminal.reset();
  std::vector<UniqueFd> streams;
  streams.push_back(std::move(io.first));
  if (!tty) streams.push_back(std::move(err.first));
  err.second.reset();
  UniqueFd relayed;
  if (tty)
    relayed = std::move(io.second);
  else
    io.second.reset();
  call->send_streams(std::move(streams));
  // `Process` belongs to one thread, the one that waits; signals go by a descriptor of their own.
  const auto send_signal = [pidfd = std::make_shared<UniqueFd>(duplicate(process->pidfd()))](int number) {
    ::syscall(SYS_pidfd_send_signal, pidfd->get(), number, nullptr, 0);
  };
  call->on_message([send_signal, controller](const Json& message) {
    if (message.at("method") == "signal") send_signal(number_of(message.value("name", "")));
    if (message.at("method") == "resize" && controller >= 0) {
      const winsize size{message.value<unsigned short>("rows", 24), message.value<unsigned short>("columns", 80), 0, 0};
      ::ioctl(controller, TIOCSWINSZ, &size);
    }
  });
  std::thread([call, process, send_signal, controller, socket = std::make_shared<UniqueFd>(std::move(relayed))] {
    const std::stop_callback hang_up(call->cancelled(), [&] { send_signal(SIGKILL); });
    if (controller >= 0) relay(controller, socket->get());
    const auto status = *process->wait(Deadline::never());
    socket->reset();
    call->ended(status_of(status));
    call->respond({{"schema", "agentvm.exec/1"}, {"message", "detached"}});
  }).detach();
}

Json sandbox(const std::string& name) {
  return {{"name", name},
          {"state", "running"},
          {"backend", "libvirt"},
          {"uptime_seconds", 61},
          {"project", "/src/" + name}};
}

void add_operations(manager::Service& service, const fs::path& home) {
  service.add_async("exec", Lane::sandbox, [](const std::shared_ptr<Responder>& call, const Json& params) {
    if (value_or<std::string>(params, "name", "") == "nosuch")
      throw Error(ErrorCode::not_found, "there is no sandbox 'nosuch'", "agentvm list");
    run_process(call, params, require<std::vector<std::string>>(params, "argv"));
  });
  service.add_async(
      "attach", Lane::sandbox,
      [home](const std::shared_ptr<Responder>& call, Json params) {
        params["tty"] = true;
        run_process(call, params,
                    {"/bin/sh", "-c",
                     "echo attached; stty -echo; while read x; do [ \"$x\" = bye ] && break; echo \"got $x\"; done"});
      },
      OnRetire::interrupt);
  service.add("list", Lane::quick, [](CallContext&, const Json&) -> Json {
    return {{"schema", "agentvm.list/1"}, {"sandboxes", {sandbox("one"), sandbox("two")}}};
  });
  service.add("status", Lane::quick, [](CallContext&, const Json& params) {
    auto status = sandbox(value_or<std::string>(params, "name", "one"));
    status["schema"] = "agentvm.status/1";
    status["params"] = params;
    return status;
  });
  // Works until it is cancelled, telling how far it is.
  service.add("agents.variables", Lane::quick, [](CallContext&, const Json&) {
    return Json{{"schema", "agentvm.agents-variables/1"}, {"pass", Json::array()}, {"deny", Json::array()}};
  });
  service.add("start", Lane::sandbox, [](CallContext& call, const Json& params) -> Json {
    const auto path = value_or<std::string>(params, "path", "");
    if (path == "running") {
      auto status = sandbox("one");
      status["already_running"] = true;
      return status;
    }
    if (path == "started") return sandbox("one");
    for (int percent = 0;; percent = (percent + 1) % 100) {
      call.progress({"boot", "booting", percent});
      call.check_cancelled();
      std::this_thread::sleep_for(milliseconds(5));
    }
  });
  service.add("sync", Lane::work, [](CallContext& call, const Json& params) -> Json {
    call.warning("a warning\x1b[2J with an escape");
    return {{"schema", "agentvm.sync/1"},
            {"result", value_or<std::string>(params, "branch", "up-to-date")},
            {"branch", "main"}};
  });
  // Three syncs land, then the sandbox stops.
  service.add("sync.next", Lane::quick, [](CallContext&, const Json& params) -> Json {
    if (value_or<bool>(params, "peek", false)) return {{"name", "one"}, {"sequence", 7}};
    const auto after = require<std::uint64_t>(params, "after");
    if (after == 10) return {{"ended", true}};
    return {
        {"sequence", after + 1},
        {"outcome", {{"schema", "agentvm.sync/1"}, {"result", "up-to-date"}, {"branch", fmt::format("b{}", after)}}}};
  });
  service.add("artifacts", Lane::work, [](CallContext&, const Json& params) -> Json {
    const bool gated = value_or<bool>(params, "accept", false);
    return {{"schema", "agentvm.artifacts/1"},
            {"result", gated ? "gated" : "updated"},
            {"files", 2},
            {"bytes", 2048},
            {"unchanged", 1},
            {"destination", "/d\x1b[2J"},
            {"params", params}};
  });
  service.add("doctor", Lane::work, [](CallContext&, const Json&) -> Json {
    return {{"schema", "agentvm.doctor/1"},
            {"ok", false},
            {"checks", {{{"id", "disk"}, {"status", "fail"}, {"finding", "full"}, {"remedy", "rm"}}}}};
  });
  service.add("stop", Lane::sandbox, [](CallContext&, const Json& params) -> Json {
    const auto name = value_or<std::string>(params, "name", "one");
    if (name == "two") throw Error(ErrorCode::timed_out, "'two' does not stop");
    return {{"schema", "agentvm.stop/1"}, {"name", name}, {"state", "stopped"}, {"params", params}};
  });
  service.add("destroy", Lane::sandbox, [](CallContext&, const Json& params) -> Json {
    return {{"schema", "agentvm.destroy/1"}, {"name", params.at("name")}, {"rescued", {"refs/agentvm/x/wip/1"}}};
  });
  // The sandbox's name is the outcome.
  service.add("wip.apply", Lane::sandbox, [](CallContext&, const Json& params) -> Json {
    return {{"schema", "agentvm.wip-apply/1"},
            {"result", value_or<std::string>(params, "name", "applied")},
            {"name", "20260131T080910Z"},
            {"conflicts", {"a\x1b[2J"}},
            {"params", params}};
  });
  service.add("wip.drop", Lane::sandbox, [](CallContext&, const Json& params) -> Json {
    return {{"schema", "agentvm.wip-drop/1"},
            {"dropped", {{{"name", "x"}, {"commit", "0123456789abcdef"}}}},
            {"params", params}};
  });
  // Notes in a file when it begins and ends; "cancelled" when it never began is the server's own answer.
  service.add("note", Lane::sandbox, [home](CallContext&, const Json& params) -> Json {
    const auto notes = open_file(home / "notes", O_CREAT | O_WRONLY | O_APPEND);
    const auto who = require<std::string>(params, "name") + std::to_string(require<int>(params, "number"));
    write_all(notes.get(), "begin " + who + "\n", Deadline::never());
    std::this_thread::sleep_for(milliseconds(value_or<int>(params, "milliseconds", 20)));
    write_all(notes.get(), "end " + who + "\n", Deadline::never());
    return {{"who", who}};
  });
  // The sandbox's name is the branch that it stands on; "detached" stands on none.
  service.add("remote.list", Lane::work, [](CallContext&, const Json& params) -> Json {
    const auto name = require<std::string>(params, "name");
    const bool detached = name == "detached";
    return {{"schema", "agentvm.remote-list/1"},
            {"head_branch", detached ? "" : name},
            {"detached_head", detached ? std::string(40, 'd') : ""},
            {"branches",
             {{{"branch", "a"}, {"tip", std::string(40, 'a')}}, {{"branch", "main"}, {"tip", std::string(40, 'b')}}}},
            {"rejected", {{{"name", "refs/heads/x\x1b[2J"}, {"reason", "is called so"}}}}};
  });
  service.add("plan", Lane::quick, [](CallContext&, const Json& params) -> Json {
    return {{"schema", "agentvm.plan/1"}, {"params", params}};
  });
  service.add("logs", Lane::sandbox, [home](CallContext&, const Json&) -> Json {
    return {{"path", (home / "serial.log").string()}};
  });
  service.add("recording", Lane::work, [home](CallContext&, const Json& params) -> Json {
    return {{"schema", "agentvm.recording/1"},
            {"name", value_or<std::string>(params, "name", "one")},
            {"session", "one-main"},
            {"live", !fs::exists(home / "fake-stopped")},
            {"folder", (home / "recording").string()},
            {"problem", nullptr}};
  });
  service.add("ssh-config", Lane::quick, [home](CallContext&, const Json&) -> Json {
    return {{"schema", "agentvm.ssh-config/1"},
            {"stanza", "Host agentvm-one\n"},
            {"config_file", (home / "ssh_config").string()},
            {"host_alias", "agentvm-one"}};
  });
  service.busy([home] { return fs::exists(home / "fake-busy"); });
}

int serve(int count, char** words) {
  manager::ManagerOptions options;
  options.paths = resolve_paths();
  const char* folder = std::getenv("AGENTVM_HOME");
  if (!folder) throw Error(ErrorCode::usage, "the fake needs AGENTVM_HOME");
  const fs::path home = folder;
  // Each process that gets so far leaves a mark: a test counts them.
  ensure_private_dir(home / "started");
  open_file(home / "started" / std::to_string(::getpid()), O_CREAT | O_WRONLY);
  if (const auto reason = read_file_if_exists(home / "fake-never-listen")) {
    std::cerr << *reason << std::flush;
    return 9;
  }
  if (const auto version = read_file_if_exists(home / "fake-version")) options.version = *version;
  if (const auto idle = read_file_if_exists(home / "fake-idle-milliseconds"))
    options.idle = milliseconds(std::stoi(*idle));
  if (const auto limit = read_file_if_exists(home / "fake-retire-milliseconds"))
    options.retire_limit = milliseconds(std::stoi(*limit));
  return test::run_stand_in(options, count, words,
                            [&home](manager::Service& service, const Paths&) { add_operations(service, home); });
}

}  // namespace

int main(int count, char** words) {
  return test::report_failure("fake manager", [&] { return serve(count, words); });
}
