#include "sync/git/pkt_line.hpp"

#include <cstring>

#include <fmt/format.h>

#include "vmm/base/error.hpp"
#include "vmm/base/fd.hpp"

namespace agentvm::git {
namespace {
int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}
}  // namespace

Pkt parse_pkt(std::string_view input) {
  if (input.size() < 4) return {};
  std::size_t length = 0;
  for (int i = 0; i < 4; ++i) {
    const int digit = hex_value(input[static_cast<std::size_t>(i)]);
    if (digit < 0) return {Pkt::Kind::bad, {}, 0};
    length = length << 4 | static_cast<std::size_t>(digit);
  }
  if (length == 0) return {Pkt::Kind::flush, {}, 4};
  // 1 and 2 are protocol v2's delimiters, 3 is nothing, 4 an empty packet, which upload-pack never sends.
  if (length <= 4 || length > pkt_limit_bytes) return {Pkt::Kind::bad, {}, 0};
  if (input.size() < length) return {};
  return {Pkt::Kind::data, input.substr(4, length - 4), length};
}

std::string pkt(std::string_view payload) {
  return fmt::format("{:04x}{}", payload.size() + 4, payload);
}

PktStream::PktStream(int in, int out, std::uint64_t limit_bytes, Deadline deadline)
    : in_(in), out_(out), limit_(limit_bytes), deadline_(deadline), buffer_(4 * pkt_limit_bytes) {}

Pkt PktStream::next() {
  for (;;) {
    const auto packet = parse_pkt({buffer_.data() + begin_, end_ - begin_});
    if (packet.kind == Pkt::Kind::bad)
      throw Error(ErrorCode::operation_failed, "the guest's git does not speak git's protocol");
    if (packet.kind != Pkt::Kind::need_more) {
      begin_ += packet.consumed;
      return packet;
    }
    if (begin_ > 0) {
      std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
    }
    if (deadline_.expired()) throw Error(ErrorCode::timed_out, "fetching took too long (sync.limits.seconds)");
    const auto count = read_some(in_, buffer_.data() + end_, buffer_.size() - end_, deadline_);
    if (count == 0) throw Error(ErrorCode::operation_failed, "the guest's git ended the connection early");
    end_ += count;
    received_ += count;
    if (received_ > limit_)
      throw Error(ErrorCode::operation_failed,
                  fmt::format("the guest sent more than {} bytes (sync.limits.bytes)", limit_));
  }
}

void PktStream::send(std::string_view data) {
  write_all(out_, data, deadline_);
}

void say_goodbye(PktStream& stream) {
  try {
    stream.send(flush_pkt);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::operation_failed) throw;  // a deadline
  }
}

}  // namespace agentvm::git
