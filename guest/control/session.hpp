#pragma once
// The host's state machine for one connection to a guest's agent, without any I/O: bytes in, bytes out, answers kept
// until they are fetched. Every byte from the guest is hostile. Not thread-safe: Control locks around it; the fuzz
// target drives it directly.
//
// Until the answer to our hello is seen, bytes are discarded (a frame may have been cut off by the death of our
// predecessor), at most `discard_limit_bytes` of them. After that, whatever is no frame ends the connection; frames
// that make no sense count as violations, and the `violation_limit`th ends it too. Memory: one frame being received,
// per request its capped output, and `outgoing_limit_bytes`.

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>

#include "guest/protocol/frame.hpp"
#include "vmm/base/json.hpp"

namespace agentvm::guest {

inline constexpr std::size_t discard_limit_bytes = 4u << 20;
inline constexpr std::size_t outgoing_limit_bytes = 4u << 20;
inline constexpr std::size_t request_limit = 64;
inline constexpr unsigned violation_limit = 32;
/// Events are news for people; a guest that sends more is flooding.
inline constexpr unsigned event_limit = 256;

/// What became of one request.
struct Reply {
  bool done = false;
  Json body;  ///< the answer, when done and no error
  std::optional<Error> error;
  std::string out, err;  ///< of an exec, at most its limit
  bool truncated = false;
};

class Session {
 public:
  /// `nonce`: unguessable, at most 64 characters.
  explicit Session(std::string nonce);

  /// Bytes that arrived. Never throws: afterwards look at `lost`.
  void receive(std::string_view bytes);
  /// Bytes to send; `sent` takes those off that were.
  const std::string& outgoing() const { return outgoing_; }
  void sent(std::size_t count) { outgoing_.erase(0, count); }

  /// (Re)sends hello. The answer is `hello_reply`.
  void say_hello();
  const std::optional<Json>& hello_reply() const { return hello_reply_; }

  /// Throws `wrong_state` before the hello was answered, `operation_failed` when lost or when the guest takes nothing
  /// any more.
  std::uint32_t request(const Json& body, std::size_t output_limit_bytes = 0);
  void send_input(std::uint32_t id, std::string_view bytes);
  /// The reply of a request that is not yet taken; nullptr when unknown.
  const Reply* look(std::uint32_t id) const;
  Reply take(std::uint32_t id);
  /// Nobody waits for it any more; the guest is told, and its late frames are no violation.
  void abandon(std::uint32_t id);

  /// Why this session is over; empty while it is not. For good.
  const std::string& lost() const { return lost_; }
  void set_lost(const std::string& reason);
  std::optional<Json> take_event();

 private:
  struct Pending {
    Reply reply;
    std::size_t output_limit_bytes = 0;
    std::uint64_t window = output_window_bytes;  // what the guest may still send
  };
  void look_for_hello();
  bool try_hello(std::string_view rest);
  void handle(Frame frame);
  void handle_output(Frame& frame);
  void handle_response(const Frame& frame);
  void violation(std::string_view what);
  bool forgotten(std::uint32_t id) const;
  void send(FrameType type, std::uint32_t id, std::string payload, std::uint8_t flags = 0);

  std::string nonce_, lost_, outgoing_;
  std::string unsynced_;
  std::size_t discarded_ = 0;
  std::optional<Json> hello_reply_;
  FrameParser parser_{FrameParser::Garbage::fail};
  std::map<std::uint32_t, Pending> pending_;
  std::deque<std::uint32_t> forgotten_;
  std::deque<Json> events_;
  std::uint32_t next_id_ = 2;  // 1 is hello
  unsigned violations_ = 0, events_seen_ = 0;
};

}  // namespace agentvm::guest
