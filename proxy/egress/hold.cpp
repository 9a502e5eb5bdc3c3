// A connection that waits until its user has decided (`egress.ask`).
#include <fmt/format.h>

#include "proxy/egress/connection.hpp"
#include "proxy/egress/refusal.hpp"

namespace agentvm::egress {
namespace {

using asio::awaitable;
using Kind = Decision::Kind;

// What a client may send ahead while it waits. Its end stands behind that, so it has to be read; a client that sends
// more is still answered, but its end is not heard before the question's.
constexpr std::size_t ahead_limit_bytes = 16 * 1024;
// The question's end is the timer's; this is for mistakes of ours.
constexpr milliseconds slack{5000};
constexpr auto as_result = asio::as_tuple(asio::use_awaitable);

}  // namespace

/// `verdict`, which says to ask, or what the policy says once its user has changed it. Refused at once when too many
/// wait already.
awaitable<Verdict> Connection::ask(Verdict verdict) {
  const HostPort wanted = target();
  const std::string rule = rule_text(wanted);
  const Questions::Place place = core_.hold(sandbox_, rule);
  if (place.kind == Questions::Place::Kind::none) co_return verdict;
  if (place.kind == Questions::Place::Kind::asked) {
    Decision question = decision_;
    question.kind = Kind::asked;
    question.host = wanted.host;
    question.reason = question_text(sandbox_, wanted);
    core_.announce_question(question, place.notice);
  }
  // If it ends while it waits.
  decision_.kind = Kind::denied;
  decision_.cause = verdict.cause;
  // Whatever happens within, the place is given back.
  std::exception_ptr failure;
  Verdict answer = verdict;
  try {
    answer = co_await wait_for_answer(std::move(verdict), place.due);
  } catch (...) {
    failure = std::current_exception();
  }
  core_.leave(sandbox_, rule);
  if (failure) std::rethrow_exception(failure);
  if (!ended_ && answer.allowed) decision_.kind = Kind::failed;  // until it passes
  co_return answer;
}

awaitable<Verdict> Connection::wait_for_answer(Verdict verdict, SteadyTime due) {
  held_ = hearing_ = true;
  due_in(std::chrono::duration_cast<milliseconds>(due - std::chrono::steady_clock::now()) + slack);
  asio::co_spawn(core_.io(), hear_the_end(shared_from_this()), asio::detached);
  wake_.expires_at(due);
  co_await wake_.async_wait(as_result);
  held_ = false;
  // What comes next reads from the client itself, so whoever hears it now must be done.
  boost::system::error_code ignored;
  if (hearing_ && !ended_) client_->cancel(ignored);
  while (hearing_ && !ended_) {
    wake_.expires_at(SteadyTime::max());
    co_await wake_.async_wait(as_result);
  }
  if (ended_) co_return verdict;
  Verdict answer = core_.decide(sandbox_, head_.target);
  const auto limit = std::chrono::duration_cast<std::chrono::seconds>(core_.options().limits.questions.time);
  if (answer.ask) answer.reason += fmt::format(", and nobody has decided within {} seconds", limit.count());
  co_return answer;
}

/// Reads what the client sends while it waits. Its end is taken for its departure: over ssh a closed connection and one
/// that only sends no more look alike, and no client of a proxy closes before the answer.
awaitable<void> Connection::hear_the_end(std::shared_ptr<Connection> self) {
  bool more = true;
  while (more && self->held_ && self->input_.size() < ahead_limit_bytes) more = co_await self->read_more();
  if (!more && self->held_) self->end("the client went away before its user had decided");
  self->hearing_ = false;
  if (!self->held_) self->wake_.cancel();
}

}  // namespace agentvm::egress
