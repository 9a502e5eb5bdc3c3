#pragma once
// Frames on the agent port: a 16-byte little-endian header and at most 256 KiB of payload. The same code on both sides.
//
//   offset 0  magic "AVM1"     8   id (u32): of the request this belongs to; 0 with events
//          4  type (u8)        12  length of the payload (u32)
//          5  flags (u8)       16  payload: JSON with request, response, event; raw bytes with streams
//          6  reserved, 0

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace agentvm::guest {

enum class FrameType : std::uint8_t {
  request = 1,       ///< host to guest, JSON with "op"
  response = 2,      ///< guest to host, JSON; exactly one per request; after the last output of an exec
  event = 3,         ///< guest to host, JSON, id 0
  input = 4,         ///< host to guest, bytes for an exec's standard input; flag `end` closes it
  output = 5,        ///< guest to host, standard output of an exec
  error_output = 6,  ///< guest to host, standard error of an exec
  window = 7,        ///< host to guest, u32: that many more bytes of output may be sent for this exec
  cancel = 8,        ///< host to guest: forget the request; an exec is killed
};

inline constexpr std::uint8_t frame_flag_end = 1;
inline constexpr std::size_t frame_header_bytes = 16;
inline constexpr std::size_t frame_payload_limit_bytes = 256u << 10;
/// Output that the guest may send for one exec before the host grants more.
inline constexpr std::uint32_t output_window_bytes = 256u << 10;
/// Standard input of one exec, as a whole: it is kept in the guest's memory until the program reads it.
inline constexpr std::size_t exec_input_limit_bytes = 1u << 20;
inline constexpr std::size_t exec_limit = 32;
inline constexpr std::size_t waiter_limit = 16;
/// Hosts that wait for news of one kind.
inline constexpr std::size_t token_waiter_limit = 8;
/// Listening sockets in one answer.
inline constexpr std::size_t listening_port_limit = 256;
/// Terminal sessions in one answer.
inline constexpr std::size_t session_limit = 64;
/// Below the guest's root: what runs in each of them, noted by itself. In memory, and the agent user's.
inline constexpr const char* session_notes_folder = "run/agentvm/sessions";
/// Below the guest's root, in memory: which template the machine came from.
inline constexpr const char* template_nonce_file = "run/agentvm/template";
inline constexpr int protocol_version = 1;

struct Frame {
  FrameType type = FrameType::event;
  std::uint8_t flags = 0;
  std::uint32_t id = 0;
  std::string payload;
};

/// Throws `usage` when the payload is larger than the limit.
std::string encode(const Frame& frame);
std::string encode_u32(std::uint32_t value);
/// Nothing unless `bytes` are exactly four.
std::optional<std::uint32_t> decode_u32(std::string_view bytes);

struct FrameHeader {
  FrameType type;
  std::uint8_t flags;
  std::uint32_t id, length;
};
/// Nothing when it is not a header that this protocol can send. `bytes` are at least `frame_header_bytes`.
std::optional<FrameHeader> decode_header(std::string_view bytes);

/// Cuts a byte stream into frames. Every byte is taken as hostile: memory follows the bytes that arrived, never a
/// claimed length, and stays below one frame plus one feed when `next` is called until it is empty after each `feed`.
/// Not thread-safe.
class FrameParser {
 public:
  /// `fail`: what is no frame throws (the stream is lost). `skip`: it looks for the next header.
  enum class Garbage { fail, skip };
  explicit FrameParser(Garbage garbage) : garbage_(garbage) {}

  void feed(std::string_view bytes);
  /// The next whole frame; nothing when more bytes are needed. Throws `operation_failed` (with `fail`), then for ever.
  std::optional<Frame> next();
  /// Forgets everything that was fed.
  void reset();
  /// A frame has begun and is not complete.
  bool mid_frame() const { return buffer_.size() > start_; }
  /// Bytes that belonged to no frame, since construction.
  std::uint64_t skipped_bytes() const { return skipped_; }
  std::size_t buffered_bytes() const { return buffer_.size() - start_; }

 private:
  void skip(std::size_t count);
  bool find_header();
  Garbage garbage_;
  std::string buffer_;
  std::size_t start_ = 0;
  std::uint64_t skipped_ = 0;
  bool failed_ = false;
};

}  // namespace agentvm::guest
