#pragma once
// The reverse proxy as the manager has it: the routes follow the records and the guests' ports, dialling goes through
// the data sessions.

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "cli/manager/ops/guest_news.hpp"
#include "cli/manager/ops/janitor.hpp"
#include "cli/manager/ops/live.hpp"
#include "proxy/reverse/reverse.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/json.hpp"
#include "vmm/base/paths.hpp"
#include "vmm/sandbox.hpp"

namespace agentvm::manager {

/// The folders of a sandbox that names may mean: /workspace, and the work trees on record. Pure.
std::vector<proxy::Worktree> named_worktrees(const SandboxRecord& record);

/// Thread-safe. Without a listening proxy (disabled, its port taken) the ports are known all the same.
class Front {
 public:
  /// `live`: what is open into a sandbox; must not block. `waiting`: as `proxy::Options::waiting`.
  Front(const Paths& paths, std::function<std::shared_ptr<LiveSandbox>(const SandboxName&)> live,
        std::function<std::vector<std::string>(const std::string&)> waiting, Janitor& janitor);
  ~Front();

  /// Listens as the user's configuration says, unless it does already; numbers of guests' ports that were another
  /// program's are tried again. Never throws: `problem` tells.
  void open();
  /// Why there are no URLs; empty when there are.
  std::string problem();

  void show(const SandboxRecord& record);
  /// Its work trees alone have changed.
  void show_worktrees(const SandboxRecord& record);
  void forget(const SandboxName& name);
  /// A new machine runs: its ports are followed until `unwatch`. Without `control` none are seen.
  void watch(const SandboxName& name, std::shared_ptr<guest::Control> control);
  void unwatch(const SandboxName& name);

  /// [{port, process, worktree, url, primary, same_port_url, same_port_problem}]; `worktree` is a branch or null; `url`
  /// is null while `problem` is not empty.
  Json ports(const SandboxName& name);
  /// "" while `problem` is not empty.
  std::string url(const SandboxName& name, std::uint16_t port = 0, const std::string& worktree = {});
  std::string index_url();
  /// Of the authority that is to be trusted for https; empty: the URLs are plain http, or there are none.
  fs::path certificate();

  /// A raw TCP connection to `port` inside, where it is listened on. `callback` as with `proxy::Options::dial`.
  void connect(const SandboxName& name, std::uint16_t port, Deadline deadline, proxy::Options::Dialled callback);

  /// Ends the proxy and the watches.
  void stop();

 private:
  std::shared_ptr<proxy::ReverseProxy> proxy();
  /// Makes the proxy if there is none and there may be one.
  void begin();
  /// Every change of the routes is made here: the proxy listens where they say.
  void change(const std::function<void(proxy::Routes&)>& edit);
  void dial(const std::string& sandbox, const std::string& address, std::uint16_t port, Deadline deadline,
            proxy::Options::Dialled callback);
  void follow(const std::stop_token& stop, const SandboxName& name, guest::Control& control);
  void set_ports(const SandboxName& name, const std::vector<guest::GuestPort>& ports);

  const Paths paths_;
  const std::function<std::shared_ptr<LiveSandbox>(const SandboxName&)> live_;
  const std::function<std::vector<std::string>(const std::string&)> waiting_;
  Janitor& janitor_;
  const std::shared_ptr<proxy::RouteTable> routes_ = std::make_shared<proxy::RouteTable>();
  std::mutex mutex_;  // guards the members below
  std::shared_ptr<proxy::ReverseProxy> proxy_;
  fs::path certificate_;
  std::string problem_ = "the proxy is not running";
  std::uint64_t machines_ = 0;
  bool stopped_ = false;
  Followers watches_;  // last: they use all of the above
};

}  // namespace agentvm::manager
