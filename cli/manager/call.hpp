#pragma once
// One request in flight: the thread-safe face that handlers see.

#include <mutex>

#include "cli/manager/service.hpp"

namespace agentvm::manager {

/// Where a call's lines go. Thread-safe; drops everything once the client is gone.
class Outbox {
 public:
  enum class Weight { needed, droppable };  ///< droppable: progress, when the client does not keep up
  virtual ~Outbox() = default;
  virtual void post(Json line, std::vector<UniqueFd> fds, Weight weight) = 0;
  virtual void call_ended(std::uint64_t id) = 0;
  virtual PeerCredentials peer() const = 0;
};

class Call final : public Responder, public std::enable_shared_from_this<Call> {
 public:
  Call(std::uint64_t id, OnRetire on_retire, std::shared_ptr<Outbox> outbox);
  ~Call() override;

  void progress(const ProgressEvent& event) override;
  void warning(std::string text) override;
  void send_streams(std::vector<UniqueFd> fds) override;
  void ended(const Json& status) override;
  std::stop_token cancelled() const override { return stop_.get_token(); }
  void on_message(std::function<void(const Json&)> callback) override;
  PeerCredentials peer() const override { return outbox_->peer(); }
  Progress progress_function() override;
  void respond(Json result) override;
  void fail(const Error& error) override;

  // For the server.
  void cancel() { stop_.request_stop(); }
  void deliver(Json message);
  OnRetire on_retire() const { return on_retire_; }
  /// Called once when the call is answered or dropped; set before the handler runs.
  void when_done(std::function<void()> callback) { when_done_ = std::move(callback); }

 private:
  void answer(Json line);
  const std::uint64_t id_;
  const OnRetire on_retire_;
  const std::shared_ptr<Outbox> outbox_;
  std::stop_source stop_;
  std::function<void()> when_done_;
  std::atomic<bool> answered_{false};
  std::mutex mutex_;  // guards the two below
  std::function<void(const Json&)> on_message_;
  std::vector<Json> early_;
};

}  // namespace agentvm::manager
