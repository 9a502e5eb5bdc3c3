#include "guest/control/session.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "vmm/base/text.hpp"

namespace agentvm::guest {
namespace {

constexpr std::uint32_t hello_id = 1;
constexpr std::size_t hello_limit_bytes = 4096;
constexpr std::size_t forgotten_limit = 256;
constexpr std::size_t kept_events = 16;
constexpr std::size_t message_limit_bytes = 1024;
constexpr std::string_view magic = "AVM1";

/// The guest's error, cleaned: it goes to terminals and logs.
Error error_of(const Json& body) {
  const auto& error = body.at("error");
  const auto code = value_or<std::string>(error, "code", "");
  const auto message = value_or<std::string>(error, "message", "the guest's agent refused");
  return Error(error_code_from(code), "guest: " + clean_guest_text(message, Newlines::escape, message_limit_bytes));
}

}  // namespace

Session::Session(std::string nonce) : nonce_(std::move(nonce)) {}

void Session::set_lost(const std::string& reason) {
  if (!lost_.empty()) return;
  lost_ = reason;
  outgoing_.clear();
  unsynced_.clear();
  parser_.reset();
}

void Session::violation(std::string_view what) {
  if (++violations_ >= violation_limit)
    set_lost(fmt::format("the guest's agent broke the protocol {} times, the last time with {}", violations_, what));
}

void Session::send(FrameType type, std::uint32_t id, std::string payload, std::uint8_t flags) {
  outgoing_ += encode({type, flags, id, std::move(payload)});
}

void Session::say_hello() {
  if (hello_reply_ || !lost_.empty() || outgoing_.size() > hello_limit_bytes) return;
  send(FrameType::request, hello_id, dump_json({{"op", "hello"}, {"nonce", nonce_}, {"protocol", protocol_version}}));
}

void Session::receive(std::string_view bytes) {
  if (!lost_.empty()) return;
  try {
    if (!hello_reply_) {
      unsynced_ += bytes;
      look_for_hello();
      return;
    }
    parser_.feed(bytes);
    while (lost_.empty()) {
      auto frame = parser_.next();
      if (!frame) break;
      handle(std::move(*frame));
    }
  } catch (const std::exception& error) {
    set_lost(error.what());
  }
}

/// Looks at every place where the magic stands; what was claimed at a place that was no hello answer is not believed.
void Session::look_for_hello() {
  std::size_t start = 0, keep = std::string::npos;  // keep: the first place that may still become one
  while (true) {
    start = unsynced_.find(magic[0], start);
    if (start == std::string::npos) {
      start = unsynced_.size();
      break;
    }
    const auto rest = std::string_view(unsynced_).substr(start);
    const auto known = std::min(rest.size(), magic.size());
    if (rest.substr(0, known) == magic.substr(0, known)) {
      const bool short_header = rest.size() < frame_header_bytes;
      const auto header = short_header ? std::nullopt : decode_header(rest);
      const bool plausible = header && header->type == FrameType::response && header->id == hello_id &&
                             header->length <= hello_limit_bytes;
      const bool whole = plausible && rest.size() >= frame_header_bytes + header->length;
      if (keep == std::string::npos && (short_header || (plausible && !whole))) keep = start;
      if (whole && try_hello(rest.substr(frame_header_bytes, header->length))) {
        const auto remaining = std::string(rest.substr(frame_header_bytes + header->length));
        unsynced_.clear();
        unsynced_.shrink_to_fit();
        return receive(remaining);
      }
    }
    ++start;
  }
  start = std::min(start, keep);
  discarded_ += start;
  unsynced_.erase(0, start);
  if (discarded_ > discard_limit_bytes)
    set_lost(fmt::format("{} bytes came from the guest's agent port and no answer to hello", discarded_));
}

bool Session::try_hello(std::string_view payload) {
  try {
    auto body = parse_json(payload, "hello");
    if (value_or<std::string>(body, "nonce", "") != nonce_) return false;
    hello_reply_ = std::move(body);
    return true;
  } catch (const Error&) {
    return false;
  }
}

void Session::handle(Frame frame) {
  switch (frame.type) {
    case FrameType::response:
      return handle_response(frame);
    case FrameType::output:
    case FrameType::error_output:
      return handle_output(frame);
    case FrameType::event: {
      if (++events_seen_ > event_limit) return violation("a flood of events");
      auto event = parse_json(frame.payload, "event");
      if (event.is_object() && value_or<std::string>(event, "event", "") == "restarted")
        return set_lost("the guest's agent was restarted");  // it knows nothing of our session
      if (events_.size() >= kept_events) events_.pop_front();
      events_.push_back(std::move(event));
      return;
    }
    default:
      return violation("a frame that only the host sends");
  }
}

void Session::handle_response(const Frame& frame) {
  if (frame.id == hello_id) {
    // Hello was repeated until it was answered: each repetition has its answer, and there are only so many of them.
    if (++events_seen_ > event_limit) violation("a flood of answers");
    return;
  }
  const auto found = pending_.find(frame.id);
  if (found == pending_.end() || found->second.reply.done) {
    if (!forgotten(frame.id)) violation("an answer that nobody asked for");
    return;
  }
  auto& reply = found->second.reply;
  reply.done = true;
  try {
    auto body = parse_json(frame.payload, "answer");
    if (body.is_object() && body.contains("error"))
      reply.error = error_of(body);
    else
      reply.body = std::move(body);
  } catch (const Error& error) {
    reply.error = Error(ErrorCode::operation_failed, std::string("the guest's agent: ") + error.what());
    violation("an answer that is no JSON");
  }
}

void Session::handle_output(Frame& frame) {
  const auto found = pending_.find(frame.id);
  if (found == pending_.end() || found->second.reply.done) {
    if (!forgotten(frame.id)) violation("output of a program that does not run");
    return;
  }
  auto& pending = found->second;
  if (frame.payload.size() > pending.window)
    return set_lost("the guest's agent sent more output than it was allowed to");
  pending.window -= frame.payload.size();
  auto& into = frame.type == FrameType::output ? pending.reply.out : pending.reply.err;
  const auto room = pending.output_limit_bytes - std::min(pending.output_limit_bytes, into.size());
  if (frame.payload.size() > room) pending.reply.truncated = true;
  into.append(frame.payload, 0, room);
  // Grant in halves of the window: a grant per frame would double the traffic of a talkative program.
  if (pending.window <= output_window_bytes / 2) {
    if (outgoing_.size() > outgoing_limit_bytes) return set_lost("the guest's agent does not read");
    send(FrameType::window, frame.id, encode_u32(static_cast<std::uint32_t>(output_window_bytes - pending.window)));
    pending.window = output_window_bytes;
  }
}

std::uint32_t Session::request(const Json& body, std::size_t output_limit) {
  if (!lost_.empty()) throw Error(ErrorCode::operation_failed, "the connection to the guest's agent is lost: " + lost_);
  if (!hello_reply_) throw Error(ErrorCode::wrong_state, "the guest's agent has not said hello yet");
  if (pending_.size() >= request_limit)
    throw Error(ErrorCode::operation_failed, "too many requests to the guest's agent at once");
  if (outgoing_.size() > outgoing_limit_bytes)
    throw Error(ErrorCode::operation_failed, "the guest's agent does not read");
  const auto id = next_id_;
  send(FrameType::request, id, dump_json(body));
  // 2^32 requests later an id could meet an old one that is still pending; skip those, and hello's.
  do ++next_id_;
  while (next_id_ <= hello_id || pending_.contains(next_id_));
  pending_[id].output_limit_bytes = output_limit;
  return id;
}

void Session::send_input(std::uint32_t id, std::string_view bytes) {
  constexpr std::size_t piece_bytes = 64u << 10;
  do {
    const auto piece = bytes.substr(0, piece_bytes);
    bytes.remove_prefix(piece.size());
    send(FrameType::input, id, std::string(piece), bytes.empty() ? frame_flag_end : 0);
  } while (!bytes.empty());
}

const Reply* Session::look(std::uint32_t id) const {
  const auto found = pending_.find(id);
  return found == pending_.end() ? nullptr : &found->second.reply;
}

Reply Session::take(std::uint32_t id) {
  const auto found = pending_.find(id);
  if (found == pending_.end()) throw Error(ErrorCode::operation_failed, "no such request");
  auto reply = std::move(found->second.reply);
  pending_.erase(found);
  return reply;
}

void Session::abandon(std::uint32_t id) {
  if (pending_.erase(id) == 0 || !lost_.empty()) return;
  if (forgotten_.size() >= forgotten_limit) forgotten_.pop_front();
  forgotten_.push_back(id);
  if (outgoing_.size() <= outgoing_limit_bytes) send(FrameType::cancel, id, "");
}

bool Session::forgotten(std::uint32_t id) const {
  return std::find(forgotten_.begin(), forgotten_.end(), id) != forgotten_.end();
}

std::optional<Json> Session::take_event() {
  if (events_.empty()) return std::nullopt;
  auto event = std::move(events_.front());
  events_.pop_front();
  return event;
}

}  // namespace agentvm::guest
