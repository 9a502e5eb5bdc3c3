#pragma once
// A request as somebody else's steps are to see it: passes on what is said to the client, and is changed by deriving.

#include <memory>

#include "cli/manager/service.hpp"
#include "vmm/base/log.hpp"

namespace agentvm::manager {

/// Thread-safe as the call is. Without a call everything said is dropped.
class CallRelay : public CallContext {
 public:
  explicit CallRelay(std::shared_ptr<CallContext> client) : client_(std::move(client)) {}
  void progress(const ProgressEvent& event) override {
    if (client_) client_->progress(event);
  }
  void warning(std::string text) override {
    if (client_) client_->warning(std::move(text));
  }
  void send_streams(std::vector<UniqueFd>) override {}
  void ended(const Json&) override {}
  std::stop_token cancelled() const override { return client_ ? client_->cancelled() : std::stop_token(); }
  void on_message(std::function<void(const Json&)>) override {}
  PeerCredentials peer() const override { return client_ ? client_->peer() : PeerCredentials{}; }
  Progress progress_function() override {
    return [this](const ProgressEvent& event) { progress(event); };
  }

 protected:
  const std::shared_ptr<CallContext> client_;
};

/// What a client, if there is one, hears while a sandbox is brought to its end: it cannot call that off, for the work
/// would be lost with it. Without one the log hears it.
class Ending final : public CallRelay {
 public:
  using CallRelay::CallRelay;
  void warning(std::string text) override {
    if (!client_) log::warn("end", "{}", text);
    CallRelay::warning(std::move(text));
  }
  std::stop_token cancelled() const override { return {}; }
};

}  // namespace agentvm::manager
