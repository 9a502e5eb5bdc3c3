#include "cli/manager/call.hpp"

#include "cli/wire/messages.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::manager {

namespace {
constexpr std::size_t early_messages_limit = 64;  // a resize per column dragged, before the handler asks for them
}

Call::Call(std::uint64_t id, OnRetire on_retire, std::shared_ptr<Outbox> outbox)
    : id_(id), on_retire_(on_retire), outbox_(std::move(outbox)) {}

Call::~Call() {
  // No exception may leave a destructor, and bad_alloc is all that could happen here.
  try {
    fail(Error(ErrorCode::operation_failed, "the manager dropped this request without an answer",
               "agentvm manager logs"));
  } catch (...) {
  }
}

void Call::progress(const ProgressEvent& event) {
  // Text may quote a guest or a child process.
  const ProgressEvent clean{event.step, clean_guest_text(event.text), event.percent};
  if (!answered_) outbox_->post(wire::progress_line(id_, clean), {}, Outbox::Weight::droppable);
}

void Call::warning(std::string text) {
  if (!answered_)
    outbox_->post(wire::warning_line(id_, clean_guest_text(text, Newlines::keep)), {}, Outbox::Weight::needed);
}

void Call::send_streams(std::vector<UniqueFd> fds) {
  const auto count = fds.size();
  if (!answered_) outbox_->post(wire::streams_line(id_, count), std::move(fds), Outbox::Weight::needed);
}

void Call::ended(const Json& status) {
  if (!answered_) outbox_->post(wire::ended_line(id_, status), {}, Outbox::Weight::needed);
}

void Call::on_message(std::function<void(const Json&)> callback) {
  std::vector<Json> early;
  {
    const std::lock_guard lock(mutex_);
    early.swap(early_);
    if (early.empty()) on_message_ = callback;
  }
  // Deliver outside the lock: the callback may call back in. Messages that arrive meanwhile queue up again, so loop
  // until none do.
  while (!early.empty()) {
    for (const auto& message : early) callback(message);
    early.clear();
    const std::lock_guard lock(mutex_);
    early.swap(early_);
    if (early.empty()) on_message_ = callback;
  }
}

void Call::deliver(Json message) {
  std::function<void(const Json&)> callback;
  {
    const std::lock_guard lock(mutex_);
    if (!on_message_) {
      if (early_.size() < early_messages_limit) early_.push_back(std::move(message));
      return;
    }
    callback = on_message_;
  }
  callback(message);
}

Progress Call::progress_function() {
  return [self = weak_from_this()](const ProgressEvent& event) {
    if (const auto call = self.lock()) call->progress(event);
  };
}

void Call::answer(Json line) {
  if (answered_.exchange(true)) return;
  outbox_->post(std::move(line), {}, Outbox::Weight::needed);
  outbox_->call_ended(id_);
  {
    const std::lock_guard lock(mutex_);
    on_message_ = nullptr;  // it may hold references back to us
  }
  if (when_done_) when_done_();
}

void Call::respond(Json result) {
  answer(wire::result_line(id_, result));
}
void Call::fail(const Error& error) {
  answer(wire::error_line(id_, error));
}

}  // namespace agentvm::manager
