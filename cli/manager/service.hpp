#pragma once
// The manager's request server. Operations (cli/manager/ops/) are registered here; sockets, threads, cancelling and the
// end of the process are this folder's business. See README.md for the flow.

#include <functional>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "vmm/base/file_lock.hpp"
#include "vmm/base/json.hpp"
#include "vmm/base/paths.hpp"
#include "vmm/base/progress.hpp"
#include "vmm/base/unix_socket.hpp"

namespace agentvm::manager {

/// One running request. Every member function is thread-safe, never blocks and never throws for a client that has gone:
/// what is said to it then is dropped.
class CallContext {
 public:
  virtual ~CallContext() = default;
  virtual void progress(const ProgressEvent& event) = 0;
  virtual void warning(std::string text) = 0;
  /// Event "streams": hands the descriptors to the client (at most 8). For exec: {io, err}; with a terminal {io}.
  virtual void send_streams(std::vector<UniqueFd> fds) = 0;
  /// Event "ended": how the guest process ended: {"kind": "exited", "code"} | {"kind": "signaled", "signal"} | {"kind":
  /// "lost"}.
  virtual void ended(const Json& status) = 0;
  /// Stops when the client cancels or is gone and when the manager ends. Callbacks on it run on the server's thread:
  /// they must not block.
  virtual std::stop_token cancelled() const = 0;
  /// Throws `cancelled` when `cancelled()` has stopped.
  void check_cancelled() const;
  /// `callback` gets each further message for this request: {"method": "resize", "columns", "rows"}, {"method":
  /// "signal", "name"}. Runs on the server's thread and must not block or throw. Messages that came before are
  /// delivered at once, on the calling thread.
  virtual void on_message(std::function<void(const Json&)> callback) = 0;
  virtual PeerCredentials peer() const = 0;
  /// A `Progress` bound to this call; does nothing once the call is gone.
  virtual Progress progress_function() = 0;
};

/// A request answered later, from any thread, exactly once: further answers are dropped. When the last reference goes
/// without an answer, the client gets `operation_failed`.
class Responder : public CallContext {
 public:
  virtual void respond(Json result) = 0;
  virtual void fail(const Error& error) = 0;
};

/// Where a handler runs.
enum class Lane {
  quick,    ///< a few threads kept for short answers (status, list): must not block for more than about a second
  work,     ///< the bounded pool: image builds, doctor, plan
  sandbox,  ///< the bounded pool, one at a time per sandbox (see `Service::lane_key`), in order of arrival
};

/// Whether a client of another version (or another build) may end this call when it takes over.
enum class OnRetire {
  finish,     ///< the retiring manager waits for it, up to its limit, and else stays
  interrupt,  ///< it is cancelled: the client starts it again by itself (attach)
};

/// Throws `Error` to fail; any other exception becomes `operation_failed`.
using Handler = std::function<Json(CallContext&, const Json& params)>;
/// May return before the request is answered; throwing fails it. Holds no thread after it returned: on `Lane::sandbox`
/// the next request of that sandbox runs from then on.
using AsyncHandler = std::function<void(std::shared_ptr<Responder>, const Json& params)>;

class Service {
 public:
  struct Method {
    Lane lane = Lane::quick;
    OnRetire on_retire = OnRetire::finish;
    AsyncHandler run;
  };

  /// Before `run_manager` only. A name given twice throws `usage`.
  void add(std::string method, Lane lane, Handler handler);
  void add_async(std::string method, Lane lane, AsyncHandler handler, OnRetire on_retire = OnRetire::finish);
  /// Which sandbox a request of `Lane::sandbox` is for; may block shortly, may throw (the request then fails). Default:
  /// params["name"], and one common lane for requests without it.
  void lane_key(std::function<std::string(const Json& params)> key) { lane_key_ = std::move(key); }
  /// Whether something runs that keeps an unused manager alive (a sandbox). Must return within a second. Default:
  /// nothing does.
  void busy(std::function<bool()> predicate) { busy_ = std::move(predicate); }
  /// Adds keys to the answer of `manager.status` ("sandboxes"); as quick as `busy`.
  void status_details(std::function<void(Json&)> add) { status_details_ = std::move(add); }
  /// Runs once, after the last request and before the lock is released: close what the operations hold. At most 10 s.
  void on_stop(std::function<void()> callback) { on_stop_ = std::move(callback); }

  const Method* find(const std::string& method) const;
  std::string key_for(const Json& params) const;
  bool is_busy() const { return busy_ && busy_(); }
  void add_status(Json& status) const {
    if (status_details_) status_details_(status);
  }
  void stopped() const {
    if (on_stop_) on_stop_();
  }

 private:
  std::map<std::string, Method> methods_;
  std::function<std::string(const Json&)> lane_key_;
  std::function<bool()> busy_;
  std::function<void(Json&)> status_details_;
  std::function<void()> on_stop_;
};

struct ManagerOptions {
  Paths paths;
  std::string version = AGENTVM_VERSION;
  milliseconds idle{60'000};  ///< without connection and without `Service::busy`, the manager ends after this long
  milliseconds retire_limit{8'000};  ///< how long a retiring manager waits for requests that must finish
  milliseconds stop_limit{10'000};   ///< how long requests may take to obey their cancelling when the manager ends
  unsigned quick_threads = 4, work_threads = 8;
};

/// The lock that makes this process the only manager of the state folder, our pid recorded in it. Waits `wait` for a
/// manager that is about to end, then throws `timed_out` naming its pid. Take it before anything that only one process
/// may open.
FileLock acquire_manager_lock(const Paths& paths, milliseconds wait = milliseconds(10'000));

/// Serves until SIGTERM, SIGINT, `manager.stop`, `manager.retire` or idleness; returns the process's exit status. Adds
/// the methods `ping`, `manager.status`, `manager.stop` and `manager.retire`. Keeps `lock` until the last handler has
/// returned. Call once per process, from the main thread, before other threads install signal handlers.
int run_manager(Service& service, const ManagerOptions& options, FileLock lock);

}  // namespace agentvm::manager
