#include "cli/manager/ops/front.hpp"

#include <fmt/format.h>

#include "cli/manager/ops/guest_news.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/text.hpp"
#include "vmm/config.hpp"

namespace agentvm::manager {
namespace {

using State = proxy::SandboxRoute::State;

constexpr milliseconds ports_patience{60'000};
constexpr milliseconds answer_limit{70'000};
constexpr milliseconds stop_limit{2'000};

State state_of(const SandboxRecord& record) {
  switch (record.state) {
    case SandboxState::running:
      return State::running;
    case SandboxState::preparing:
    case SandboxState::starting:
      return State::starting;
    default:
      return State::stopped;
  }
}

/// Where to reach what listens on `address`, from inside the guest.
std::string reachable(const std::string& address) {
  constexpr std::string_view mapped = "::ffff:";
  if (address == "0.0.0.0") return "127.0.0.1";
  if (address == "::") return "::1";
  return address.starts_with(mapped) ? address.substr(mapped.size()) : address;
}

void set_worktrees(proxy::SandboxRoute& route, const SandboxRecord& record) {
  route.worktrees = named_worktrees(record);
  proxy::place(route.ports, route.worktrees);
}

}  // namespace

std::vector<proxy::Worktree> named_worktrees(const SandboxRecord& record) {
  std::vector<proxy::Worktree> result{{"/workspace", "", ""}};
  for (const auto& worktree : record.worktrees) {
    const auto label = worktree.branch.empty() ? std::string() : branch_label(worktree.branch);
    result.push_back({worktree.path, proxy::is_worktree_label(label) ? label : std::string(), worktree.branch});
  }
  return result;
}

Front::Front(const Paths& paths, std::function<std::shared_ptr<LiveSandbox>(const SandboxName&)> live,
             std::function<std::vector<std::string>(const std::string&)> waiting, Janitor& janitor)
    : paths_(paths), live_(std::move(live)), waiting_(std::move(waiting)), janitor_(janitor) {}

Front::~Front() {
  stop();
}

void Front::open() {
  begin();
  change([](proxy::Routes&) {});
}

std::shared_ptr<proxy::ReverseProxy> Front::proxy() {
  const std::lock_guard lock(mutex_);
  return proxy_;
}

void Front::change(const std::function<void(proxy::Routes&)>& edit) {
  routes_->change([&](proxy::Routes& all) {
    edit(all);
    // Asked here, so that a proxy that was made meanwhile misses nothing: the table's lock is taken before mutex_.
    if (const auto proxy = this->proxy()) proxy->follow_ports(all);
  });
}

void Front::begin() {
  const std::lock_guard lock(mutex_);
  if (proxy_ || stopped_) return;
  try {
    ConfigInput input;
    input.user = read_config_file(paths_.config_file);
    const auto config = resolve_config(input);
    if (!config.enabled("proxy.enable")) {
      problem_ = "proxy.enable is false in your configuration";
      return;
    }
    proxy::Options options;
    options.site.port = static_cast<std::uint16_t>(config.count("proxy.port"));
    if (config.enabled("proxy.tls"))
      options.authority = proxy::Authority::open(paths_.proxy_authority(), options.site.domain, system_clock());
    if (config.enabled("proxy.same_port")) options.same_port = proxy::SamePort::on;
    options.routes = routes_;
    options.dial = [this](const std::string& sandbox, const std::string& address, std::uint16_t port, Deadline deadline,
                          proxy::Options::Dialled callback) {
      dial(sandbox, address, port, deadline, std::move(callback));
    };
    options.waiting = waiting_;
    certificate_ = options.authority ? options.authority->certificate_file() : fs::path();
    proxy_ = std::make_shared<proxy::ReverseProxy>(std::move(options));
    problem_.clear();
    log::info("proxy", "dev servers are at {}", proxy_->site().url());
  } catch (const Error& error) {
    const bool taken = error.code() == ErrorCode::host_lacks;
    const auto problem =
        fmt::format("{}{}", error.what(), taken ? "; proxy.port in your configuration file names another" : "");
    if (problem_ != problem) log::warn("proxy", "{}", problem);
    problem_ = problem;
  }
}

std::string Front::problem() {
  const std::lock_guard lock(mutex_);
  return problem_;
}

void Front::dial(const std::string& sandbox, const std::string& address, std::uint16_t port, Deadline deadline,
                 proxy::Options::Dialled callback) {
  const auto live = live_(SandboxName::parse(sandbox));
  if (!live) return callback({}, "the sandbox is not connected");
  const auto dialled = [callback](UniqueFd connection, const Error* error) {
    callback(std::move(connection), error ? clean_guest_text(error->message(), Newlines::escape, 300) : "");
  };
  if (const auto session = live->session_if_alive(Session::data))
    return session->dial_async(address, port, deadline, dialled);
  // Lost, or never needed before: making one blocks.
  janitor_.post("dial " + sandbox, [live, address, port, deadline, callback, dialled] {
    std::shared_ptr<guest::Streams> session;
    try {
      session = live->session(Session::data, deadline);
    } catch (const Error& error) {
      return callback({}, clean_guest_text(error.message(), Newlines::escape, 300));
    }
    session->dial_async(address, port, deadline, dialled);
  });
}

void Front::show(const SandboxRecord& record) {
  const auto state = state_of(record);
  const bool gone = state == State::stopped;
  change([&](proxy::Routes& all) {
    auto& route = all[record.name.str()];
    route.state = state;
    route.state_text = to_string(record.state);
    route.message = clean_guest_text(record.message, Newlines::escape, 300);
    route.command = "agentvm start " + record.project.string();
    if (record.state == SandboxState::paused || record.state == SandboxState::saved)
      route.command = "agentvm resume " + record.name.str();
    if (record.state == SandboxState::stopping || record.state == SandboxState::destroying)
      route.command = "agentvm status " + record.name.str();
    if (!gone) return set_worktrees(route, record);
    route.ports.clear();
    route.primary = 0;
  });
}

void Front::show_worktrees(const SandboxRecord& record) {
  change([&](proxy::Routes& all) {
    if (const auto found = all.find(record.name.str()); found != all.end()) set_worktrees(found->second, record);
  });
}

void Front::forget(const SandboxName& name) {
  unwatch(name);
  change([&](proxy::Routes& all) { all.erase(name.str()); });
}

void Front::watch(const SandboxName& name, std::shared_ptr<guest::Control> control) {
  unwatch(name);
  std::uint64_t machine = 0;
  {
    const std::lock_guard lock(mutex_);
    if (stopped_) return;
    machine = ++machines_;
  }
  change([&](proxy::Routes& all) { all[name.str()].machine = machine; });
  if (!control) return;
  watches_.begin(
      name, [this, name, control = std::move(control)](const std::stop_token& stop) { follow(stop, name, *control); });
}

void Front::unwatch(const SandboxName& name) {
  watches_.end(name);
}

void Front::follow(const std::stop_token& stop, const SandboxName& name, guest::Control& control) {
  std::string token;
  follow_news(stop, control, "ports of " + name.str(), [&] {
    auto ports = control.ports(token, ports_patience, stop, Deadline::after(answer_limit));
    if (ports.token != token) set_ports(name, ports.ports);
    token = std::move(ports.token);
  });
  set_ports(name, {});
}

void Front::set_ports(const SandboxName& name, const std::vector<guest::GuestPort>& ports) {
  std::vector<proxy::Port> listening;
  for (const auto& port : ports)
    listening.push_back({port.number, reachable(port.address), port.process, false, port.folder});
  listening = proxy::dev_servers(std::move(listening));
  change([&](proxy::Routes& all) {
    const auto found = all.find(name.str());
    if (found == all.end()) return;
    auto& route = found->second;
    proxy::place(listening, route.worktrees);
    route.primary = proxy::primary_port(listening, route.primary);
    route.ports = std::move(listening);
  });
}

Json Front::ports(const SandboxName& name) {
  const auto routes = routes_->snapshot();
  const auto found = routes->find(name.str());
  Json result = Json::array();
  if (found == routes->end()) return result;
  const auto same_port = proxy();
  for (const auto& port : found->second.ports) {
    const auto address = url(name, port.number, port.worktree);
    const auto* worktree = proxy::worktree_of(found->second.worktrees, port.folder);
    const bool on_branch = worktree && !worktree->branch.empty();
    result.push_back(
        {{"port", port.number},
         {"process", port.process},
         {"worktree", on_branch ? Json(clean_guest_text(worktree->branch)) : Json(nullptr)},
         {"url", address.empty() ? Json(nullptr) : Json(address)},
         {"primary", port.number == found->second.primary},
         {"same_port_url",
          same_port && port.same_port ? Json(same_port->site().same_port_url(name.str(), port.number)) : Json(nullptr)},
         {"same_port_problem", port.same_port_problem}});
  }
  return result;
}

std::string Front::url(const SandboxName& name, std::uint16_t port, const std::string& worktree) {
  const std::lock_guard lock(mutex_);
  return proxy_ ? proxy_->site().url(name.str(), port, worktree) : std::string();
}

std::string Front::index_url() {
  const std::lock_guard lock(mutex_);
  return proxy_ ? proxy_->site().url() : std::string();
}

fs::path Front::certificate() {
  const std::lock_guard lock(mutex_);
  return proxy_ ? certificate_ : fs::path();
}

void Front::connect(const SandboxName& name, std::uint16_t port, Deadline deadline, proxy::Options::Dialled callback) {
  const auto routes = routes_->snapshot();
  // Ports of the guest's system are not listed, and can be reached all the same: this is for the sandbox's owner.
  std::string address = "127.0.0.1";
  if (const auto found = routes->find(name.str()); found != routes->end())
    for (const auto& listening : found->second.ports)
      if (listening.number == port) address = listening.address;
  dial(name.str(), address, port, deadline, std::move(callback));
}

void Front::stop() {
  std::shared_ptr<proxy::ReverseProxy> proxy;
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    proxy.swap(proxy_);
    problem_ = "the manager ends";
  }
  watches_.stop();
  if (proxy) proxy->stop(Deadline::after(stop_limit));
}

}  // namespace agentvm::manager
