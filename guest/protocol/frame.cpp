#include "guest/protocol/frame.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "vmm/base/error.hpp"

namespace agentvm::guest {
namespace {

constexpr std::string_view magic = "AVM1";

std::uint32_t load_u32(std::string_view bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 4; ++i) value |= std::uint32_t{static_cast<unsigned char>(bytes[at + i])} << (8 * i);
  return value;
}

}  // namespace

std::string encode_u32(std::uint32_t value) {
  std::string bytes;
  for (int i = 0; i < 4; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xFF);
  return bytes;
}

std::optional<std::uint32_t> decode_u32(std::string_view bytes) {
  if (bytes.size() != 4) return std::nullopt;
  return load_u32(bytes, 0);
}

std::string encode(const Frame& frame) {
  if (frame.payload.size() > frame_payload_limit_bytes)
    throw Error(ErrorCode::usage,
                fmt::format("a message of {} bytes is larger than the {} that the guest's agent takes",
                            frame.payload.size(), frame_payload_limit_bytes));
  std::string bytes;
  bytes.reserve(frame_header_bytes + frame.payload.size());
  bytes += magic;
  bytes += static_cast<char>(frame.type);
  bytes += static_cast<char>(frame.flags);
  bytes.append(2, '\0');
  bytes += encode_u32(frame.id);
  bytes += encode_u32(static_cast<std::uint32_t>(frame.payload.size()));
  bytes += frame.payload;
  return bytes;
}

std::optional<FrameHeader> decode_header(std::string_view bytes) {
  if (bytes.size() < frame_header_bytes || bytes.substr(0, magic.size()) != magic) return std::nullopt;
  const auto type = static_cast<unsigned char>(bytes[4]);
  const auto flags = static_cast<unsigned char>(bytes[5]);
  if (type < static_cast<unsigned>(FrameType::request) || type > static_cast<unsigned>(FrameType::cancel))
    return std::nullopt;
  if (flags > frame_flag_end || bytes[6] != 0 || bytes[7] != 0) return std::nullopt;
  const FrameHeader header{static_cast<FrameType>(type), flags, load_u32(bytes, 8), load_u32(bytes, 12)};
  if (header.length > frame_payload_limit_bytes) return std::nullopt;
  return header;
}

void FrameParser::feed(std::string_view bytes) {
  if (failed_) return;
  if (start_ > 0) {
    buffer_.erase(0, start_);
    start_ = 0;
  }
  buffer_ += bytes;
}

void FrameParser::reset() {
  buffer_.clear();
  buffer_.shrink_to_fit();
  start_ = 0;
}

void FrameParser::skip(std::size_t count) {
  start_ += count;
  skipped_ += count;
}

/// True when the buffer starts with a whole, valid header.
bool FrameParser::find_header() {
  for (;;) {
    const auto rest = std::string_view(buffer_).substr(start_);
    const auto known = std::min(rest.size(), magic.size());
    const bool starts_well = rest.substr(0, known) == magic.substr(0, known);
    if (starts_well && rest.size() < frame_header_bytes) return false;
    if (starts_well && decode_header(rest)) return true;
    if (garbage_ == Garbage::fail) {
      failed_ = true;
      reset();
      throw Error(ErrorCode::operation_failed, "the guest sent bytes that are no frame");
    }
    // At least one byte goes; the next candidate is the next first byte of the magic.
    const auto next = rest.find(magic[0], 1);
    skip(next == std::string_view::npos ? rest.size() : next);
    if (next == std::string_view::npos) return false;
  }
}

std::optional<Frame> FrameParser::next() {
  if (failed_) throw Error(ErrorCode::operation_failed, "the guest sent bytes that are no frame");
  if (buffer_.size() == start_ || !find_header()) return std::nullopt;
  const auto rest = std::string_view(buffer_).substr(start_);
  const auto header = *decode_header(rest);
  if (rest.size() < frame_header_bytes + header.length) return std::nullopt;
  Frame frame{header.type, header.flags, header.id, std::string(rest.substr(frame_header_bytes, header.length))};
  start_ += frame_header_bytes + header.length;
  if (start_ == buffer_.size()) reset();
  return frame;
}

}  // namespace agentvm::guest
