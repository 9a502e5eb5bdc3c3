#include "proxy/egress/core.hpp"

#include "proxy/egress/connection.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/log.hpp"

namespace agentvm::egress {
namespace {

constexpr unsigned resolver_threads = 4;
constexpr std::size_t resolver_queue_limit = 512;

}  // namespace

Egress::Core::Core(Options options)
    : options_(std::move(options)),
      work_(asio::make_work_guard(io_)),
      resolver_(std::make_unique<ResolverPool>(options_.resolve, resolver_threads, resolver_queue_limit)),
      gate_(std::make_shared<Gate>(io_)) {
  thread_ = std::thread([this] {
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
    ::pthread_setname_np(::pthread_self(), "egress");
    // What escapes one handler must not take the others along.
    while (!io_.stopped()) try {
        io_.run();
      } catch (const std::exception& error) {
        log::error("egress", "a connection ended unexpectedly: {}", error.what());
      }
  });
}

Egress::Core::~Core() {
  stop(Deadline::after(milliseconds(2000)));
}

void Egress::Core::begin(std::shared_ptr<Socket> client, std::string sandbox) {
  if (stopping_) return;
  post([this, client = std::move(client), sandbox = std::move(sandbox)]() mutable {
    if (stopping_) return;  // meanwhile
    const bool full = crowded(sandbox);
    const auto connection = std::make_shared<Connection>(*this, std::move(client), std::move(sandbox));
    if (full) {
      connection->refuse_crowded();
      return;
    }
    add(connection);
    asio::co_spawn(io_, Connection::run(connection), asio::detached);
    asio::co_spawn(io_, Connection::watch(connection), asio::detached);
  });
}

void Egress::Core::set_policy(const std::string& sandbox, EgressPolicy policy) {
  post([this, sandbox, policy = std::move(policy)]() mutable {
    policies_[sandbox] = std::move(policy);
    const auto all = connections_;
    for (const auto& [key, connection] : all)
      if (connection->sandbox() == sandbox) connection->judge_again();
  });
}

void Egress::Core::set_upstream(std::optional<UpstreamProxy> proxy) {
  post([this, proxy = std::move(proxy)]() mutable {
    upstream_ = proxy ? std::make_shared<const UpstreamProxy>(std::move(*proxy)) : nullptr;
  });
}

void Egress::Core::set_secrets(const std::string& sandbox, std::shared_ptr<const SecretSet> secrets) {
  post([this, sandbox, secrets = std::move(secrets)]() mutable {
    if (secrets)
      secrets_[sandbox] = std::move(secrets);
    else
      secrets_.erase(sandbox);
  });
}

std::shared_ptr<const SecretSet> Egress::Core::secrets_of(const std::string& sandbox) const {
  const auto found = secrets_.find(sandbox);
  return found == secrets_.end() ? nullptr : found->second;
}

std::shared_ptr<const UpstreamProxy> Egress::Core::upstream_for(const HostPort& target) const {
  return upstream_ && upstream_->serves(target) ? upstream_ : nullptr;
}

void Egress::Core::set_caps(const std::string& sandbox, std::shared_ptr<CapLedger> caps) {
  const std::lock_guard lock(caps_mutex_);
  if (caps)
    caps_[sandbox] = std::move(caps);
  else
    caps_.erase(sandbox);
}

std::shared_ptr<CapLedger> Egress::Core::caps(const std::string& sandbox) const {
  const std::lock_guard lock(caps_mutex_);
  const auto found = caps_.find(sandbox);
  return found == caps_.end() ? nullptr : found->second;
}

void Egress::Core::freeze(const std::string& sandbox) {
  post([this, sandbox] { freeze_now(sandbox); });
}

void Egress::Core::thaw(const std::string& sandbox) {
  post([this, sandbox] { frozen_.erase(sandbox); });
}

/// False: it was frozen already.
bool Egress::Core::freeze_now(const std::string& sandbox) {
  if (!frozen_.insert(sandbox).second) return false;
  const auto all = connections_;
  for (const auto& [key, connection] : all)
    if (connection->sandbox() == sandbox) connection->end("the sandbox is frozen");
  return true;
}

void Egress::Core::decoy_was_sent(const Decision& decision) {
  log::error("egress", "{}: {}", decision.sandbox, decision.reason);
  if (!freeze_now(decision.sandbox) || !options_.on_decoy) return;
  try {
    options_.on_decoy(decision);
  } catch (const std::exception& error) {
    log::error("egress", "telling of a decoy: {}", error.what());
  }
}

void Egress::Core::forget(const std::string& sandbox) {
  set_caps(sandbox, nullptr);
  post([this, sandbox] {
    policies_.erase(sandbox);
    secrets_.erase(sandbox);
    frozen_.erase(sandbox);
    const auto all = connections_;
    for (const auto& [key, connection] : all)
      if (connection->sandbox() == sandbox) connection->end("the sandbox is gone");
    const std::lock_guard lock(questions_mutex_);
    questions_.erase(sandbox);
  });
}

void Egress::Core::stop(Deadline deadline) {
  if (!thread_.joinable()) return;
  stopping_ = true;
  post([this] {
    const auto all = connections_;
    for (const auto& [key, connection] : all) connection->end("the proxy stops");
    work_.reset();
  });
  // Closed sockets end their coroutines within a few turns; the loop then runs out of work by itself.
  while (!deadline.expired() && !io_.stopped()) std::this_thread::sleep_for(milliseconds(2));
  io_.stop();
  thread_.join();
  gate_->close();
  resolver_.reset();
}

Verdict Egress::Core::decide(const std::string& sandbox, const HostPort& target) const {
  if (frozen_.contains(sandbox))
    return {.reason = "the sandbox is frozen, because a decoy was sent", .cause = Cause::frozen};
  const auto policy = policies_.find(sandbox);
  return (policy == policies_.end() ? EgressPolicy() : policy->second).decide(target.host, target.port);
}

bool Egress::Core::crowded(const std::string& sandbox) const {
  const auto found = per_sandbox_.find(sandbox);
  return found != per_sandbox_.end() && found->second >= options_.limits.connections_per_sandbox;
}

void Egress::Core::add(const std::shared_ptr<Connection>& connection) {
  connections_.emplace(connection.get(), connection);
  ++per_sandbox_[connection->sandbox()];
  ++count_;
}

void Egress::Core::remove(const Connection& connection) {
  if (connections_.erase(&connection) == 0) return;
  const auto found = per_sandbox_.find(connection.sandbox());
  if (--found->second == 0) per_sandbox_.erase(found);
  --count_;
}

std::vector<Question> Egress::Core::questions(const std::string& sandbox) const {
  const std::lock_guard lock(questions_mutex_);
  const auto found = questions_.find(sandbox);
  return found == questions_.end() ? std::vector<Question>() : found->second.open();
}

Questions::Place Egress::Core::hold(const std::string& sandbox, const std::string& rule) {
  const std::lock_guard lock(questions_mutex_);
  // Kept until the sandbox is forgotten: it knows what its user was told of.
  auto& questions = questions_.try_emplace(sandbox, options_.limits.questions).first->second;
  return questions.hold(rule, std::chrono::steady_clock::now(), system_clock().unix_seconds());
}

void Egress::Core::leave(const std::string& sandbox, const std::string& rule) {
  const std::lock_guard lock(questions_mutex_);
  if (const auto found = questions_.find(sandbox); found != questions_.end()) found->second.leave(rule);
}

void Egress::Core::announce_question(const Decision& decision, Notice notice) const {
  if (!options_.on_ask) return;
  try {
    options_.on_ask(decision, notice);
  } catch (const std::exception& error) {
    log::error("egress", "recording a question: {}", error.what());
  }
}

void Egress::Core::announce(const Decision& decision) const {
  if (!options_.on_open) return;
  try {
    options_.on_open(decision);
  } catch (const std::exception& error) {
    log::error("egress", "recording a connection: {}", error.what());
  }
}

void Egress::Core::report(Decision decision) const {
  log::info("egress", "{}: {}:{} {} {}{} ({} up, {} down)", decision.sandbox, decision.host, decision.port,
            to_string(decision.kind), decision.rule, decision.reason.empty() ? "" : ": " + decision.reason,
            decision.bytes_up, decision.bytes_down);
  if (!options_.on_decision) return;
  try {
    options_.on_decision(decision);
  } catch (const std::exception& error) {
    log::error("egress", "recording a decision: {}", error.what());
  }
}

std::string_view to_string(Decision::Kind kind) {
  switch (kind) {
    case Decision::Kind::allowed:
      return "allowed";
    case Decision::Kind::denied:
      return "denied";
    case Decision::Kind::failed:
      return "failed";
    case Decision::Kind::malformed:
      return "malformed";
    case Decision::Kind::asked:
      return "asked";
  }
  return "malformed";
}

std::string_view to_string(Decision::Protocol protocol) {
  switch (protocol) {
    case Decision::Protocol::http:
      return "http";
    case Decision::Protocol::connect:
      return "connect";
    case Decision::Protocol::socks5:
      return "socks5";
  }
  return "http";
}

Egress::Egress(Options options) : core_(std::make_unique<Core>(std::move(options))) {}
Egress::~Egress() = default;
void Egress::set_policy(const std::string& sandbox, EgressPolicy policy) {
  core_->set_policy(sandbox, std::move(policy));
}
void Egress::set_upstream(std::optional<UpstreamProxy> proxy) {
  core_->set_upstream(std::move(proxy));
}
std::vector<Question> Egress::questions(const std::string& sandbox) const {
  return core_->questions(sandbox);
}
void Egress::set_secrets(const std::string& sandbox, std::shared_ptr<const SecretSet> secrets) {
  core_->set_secrets(sandbox, std::move(secrets));
}
void Egress::set_caps(const std::string& sandbox, std::shared_ptr<CapLedger> caps) {
  core_->set_caps(sandbox, std::move(caps));
}
std::shared_ptr<CapLedger> Egress::caps(const std::string& sandbox) const {
  return core_->caps(sandbox);
}
void Egress::freeze(const std::string& sandbox) {
  core_->freeze(sandbox);
}
void Egress::thaw(const std::string& sandbox) {
  core_->thaw(sandbox);
}
void Egress::forget(const std::string& sandbox) {
  core_->forget(sandbox);
}
std::size_t Egress::connection_count() const {
  return core_->connection_count();
}
void Egress::stop(Deadline deadline) {
  core_->stop(deadline);
}

void Egress::serve(UniqueFd connection, const std::string& sandbox) {
  int family = 0;
  socklen_t size = sizeof family;
  check_errno(::getsockopt(connection.get(), SOL_SOCKET, SO_DOMAIN, &family, &size),
              "taking over a guest's connection");
  auto client = std::make_shared<Socket>(core_->io());
  boost::system::error_code error;
  client->assign(asio::generic::stream_protocol(family, 0), connection.get(), error);
  if (error) throw Error(ErrorCode::operation_failed, "taking over a guest's connection: " + error.message());
  static_cast<void>(connection.release());
  core_->begin(std::move(client), sandbox);
}

}  // namespace agentvm::egress
