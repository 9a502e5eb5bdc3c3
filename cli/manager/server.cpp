#include "cli/manager/server.hpp"

#include <csignal>

#include <boost/asio/post.hpp>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/process.hpp"

namespace agentvm::manager {

namespace asio = boost::asio;

namespace {

constexpr std::size_t connections_limit = 256;

/// Device and inode; zeros when nothing is there.
std::pair<dev_t, ino_t> identity_of(const std::filesystem::path& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return {};
  return {status.st_dev, status.st_ino};
}

/// Runs `work`; whatever it throws becomes the call's answer. One of the three catch-alls.
template <class Work>
void guarded(const std::shared_ptr<Call>& call, Work&& work) {
  try {
    work();
  } catch (const Error& error) {
    call->fail(error);
  } catch (const std::exception& problem) {
    log::error("manager", "unexpected exception: {}", problem.what());
    call->fail(
        Error(ErrorCode::operation_failed, fmt::format("internal error: {}", problem.what()), "agentvm manager logs"));
  }
}

}  // namespace

Server::Server(Service& service, const ManagerOptions& options)
    : service_(service),
      options_(options),
      build_(wire::build_identity("/proc/self/exe")),
      quick_(options.quick_threads),
      work_(options.work_threads),
      entrance_(asio::make_strand(quick_.get_executor())) {}

wire::Hello Server::hello() const {
  return {options_.version, build_, {"streams", "retire"}, ::getpid()};
}

void Server::listen() {
  ensure_private_dir(options_.paths.runtime);
  auto fd = listen_unix(options_.paths.manager_socket());
  socket_ = identity_of(options_.paths.manager_socket());
  write_file_atomic(options_.paths.manager_address(), options_.paths.manager_socket().string());
  acceptor_.assign(asio::local::stream_protocol(), fd.release());
  acceptor_.non_blocking(true);
  accepting_ = true;
  accept();
}

void Server::keep_listening() {
  if (!accepting_ || identity_of(options_.paths.manager_socket()) == socket_) return;
  boost::system::error_code ignored;
  acceptor_.close(ignored);
  accepting_ = false;
  try {
    listen();
    log::warn("manager", "{} was gone and is there again", options_.paths.manager_socket().string());
  } catch (const Error& error) {  // a user who is logged out has no runtime folder; it comes back with them
    accepting_ = true;
    log::debug("manager", "{}", error.what());
  }
}

void Server::accept() {
  acceptor_.async_accept([this](const boost::system::error_code& problem, asio::local::stream_protocol::socket socket) {
    if (stopping_ || problem == asio::error::operation_aborted) return;
    if (!problem) {
      try {
        accepted(UniqueFd(socket.release()));
      } catch (const std::exception& failure) {
        log::warn("manager", "a client went away at once: {}", failure.what());
      }
    } else {
      // Out of descriptors, most likely: trying again at once would spin.
      log::error("manager", "accepting a client: {}", problem.message());
      return after(milliseconds(200), [this] { accept(); });
    }
    if (accepting_) accept();
  });
}

void Server::accepted(UniqueFd socket) {
  const auto peer = peer_credentials(socket.get());
  if (peer.uid != ::geteuid()) {
    log::warn("manager", "pid {} of uid {} turned away", peer.pid, peer.uid);
    return;
  }
  if (connections_.size() >= connections_limit) {
    log::warn("manager", "more than {} clients: pid {} turned away", connections_limit, peer.pid);
    return;
  }
  const auto connection = std::make_shared<Connection>(io_, std::move(socket), peer, *this);
  connections_.insert(connection);
  connection->start();
}

void Server::closed(const std::shared_ptr<Connection>& connection) {
  connections_.erase(connection);
  idle_since_ = std::chrono::steady_clock::now();
}

std::shared_ptr<Call> Server::begin(const std::shared_ptr<Connection>& from, std::uint64_t id, OnRetire on_retire,
                                    bool counted) {
  auto call = std::make_shared<Call>(id, on_retire, from);
  from->add(id, call);
  if (!counted) return call;
  const auto serial = ++next_serial_;
  {
    const std::lock_guard lock(mutex_);
    calls_[serial] = {call, from};
  }
  call->when_done([this, serial] {
    const std::lock_guard lock(mutex_);
    calls_.erase(serial);
  });
  return call;
}

void Server::request(const std::shared_ptr<Connection>& from, wire::ClientMessage message) {
  log::debug("manager", "pid {}: {}", from->peer().pid, message.method);
  const bool is_builtin = message.method == "ping" || message.method.starts_with("manager.");
  const auto* method = is_builtin ? nullptr : service_.find(message.method);
  const auto call = begin(from, message.id, method ? method->on_retire : OnRetire::finish,
                          method || message.method == "manager.status");
  guarded(call, [&] {
    if (builtin(from, message, call)) return;
    if (stopping_ || retiring_)
      return from->close();  // nothing was begun: the client comes again and finds the next manager
    if (from->client_version() != options_.version)
      throw Error(
          ErrorCode::wrong_state,
          fmt::format("the manager is version {}, the command is version {}", options_.version, from->client_version()),
          "agentvm manager stop");
    if (!method)
      throw Error(ErrorCode::operation_failed, fmt::format("the manager knows no method '{}'", message.method),
                  "agentvm manager stop");
    dispatch(*method, call, std::move(message.params));
  });
}

bool Server::builtin(const std::shared_ptr<Connection>&, const wire::ClientMessage& message,
                     const std::shared_ptr<Call>& call) {
  if (message.method == "ping") {
    call->respond({{"schema", "agentvm.ping/1"}, {"pid", ::getpid()}});
  } else if (message.method == "manager.status") {
    status(call);
  } else if (message.method == "manager.stop") {
    call->respond({{"schema", "agentvm.manager-stop/1"}, {"pid", ::getpid()}});
    stop("asked to by a client");
  } else if (message.method == "manager.retire") {
    if (stopping_) throw Error(ErrorCode::wrong_state, "the manager is ending");
    if (retiring_) throw Error(ErrorCode::wrong_state, "the manager is being replaced already");
    retire(call);
  } else {
    return false;
  }
  return true;
}

void Server::status(const std::shared_ptr<Call>& call) {
  const auto uptime =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - started_).count();
  Json answer{{"schema", "agentvm.manager-status/1"},
              {"pid", ::getpid()},
              {"version", options_.version},
              {"socket", options_.paths.manager_socket().string()},
              {"log", options_.paths.manager_log().string()},
              {"uptime_seconds", uptime},
              {"connections", connections_.size()},
              {"requests", in_flight(false)}};
  asio::post(quick_, [this, call, answer = std::move(answer)]() mutable {
    guarded(call, [&] {
      service_.add_status(answer);
      call->respond(std::move(answer));
    });
  });
}

void Server::dispatch(const Service::Method& method, std::shared_ptr<Call> call, Json params) {
  auto job = [this, &method, call = std::move(call), params = std::move(params)]() mutable {
    guarded(call, [&] {
      call->check_cancelled();
      if (method.lane == Lane::sandbox) return run_on_sandbox_lane(method, call, std::move(params));
      method.run(call, params);
    });
    call.reset();  // the pool keeps a finished job's closure alive for a moment: an async call must not depend on it
  };
  if (method.lane == Lane::sandbox)
    asio::post(entrance_, std::move(job));
  else
    asio::post(method.lane == Lane::work ? work_ : quick_, std::move(job));
}

void Server::run_on_sandbox_lane(const Service::Method& method, const std::shared_ptr<Call>& call, Json params) {
  const auto key = service_.key_for(params);
  std::shared_ptr<Strand> strand;
  {
    const std::lock_guard lock(mutex_);
    std::erase_if(strands_, [](const auto& entry) { return entry.second.expired(); });
    strand = strands_[key].lock();
    if (!strand) strands_[key] = strand = std::make_shared<Strand>(asio::make_strand(work_.get_executor()));
  }
  // The job holds the strand: it lives as long as anything is queued on it.
  asio::post(*strand, [&method, call, params = std::move(params), strand]() {
    guarded(call, [&] {
      call->check_cancelled();
      method.run(call, params);
    });
  });
}

std::size_t Server::in_flight(bool only_finish) {
  const std::lock_guard lock(mutex_);
  return static_cast<std::size_t>(std::count_if(calls_.begin(), calls_.end(), [&](const auto& entry) {
    if (!only_finish) return true;
    const auto call = entry.second.call.lock();
    return call && call->on_retire() == OnRetire::finish;
  }));
}

void Server::after(milliseconds span, std::function<void()> callback) {
  auto timer = std::make_shared<asio::steady_timer>(io_, span);
  timer->async_wait([timer, callback = std::move(callback)](const boost::system::error_code& problem) {
    if (!problem) callback();
  });
}

bool Server::run() {
  std::signal(SIGPIPE, SIG_IGN);
  signals_.add(SIGTERM);
  signals_.add(SIGINT);
  signals_.async_wait([this](const boost::system::error_code& problem, int number) {
    if (!problem) stop(fmt::format("signal {}", number));
  });
  listen();
  log::info("manager", "version {} pid {} serves {}", options_.version, ::getpid(),
            options_.paths.manager_socket().string());
  watch_idleness();
  io_.run();
  if (overdue_) return false;
  quick_.join();
  work_.join();
  return true;
}

}  // namespace agentvm::manager
