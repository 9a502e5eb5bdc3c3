#pragma once
// Git's pkt-line framing, protocol v0. The parser takes any bytes; it allocates nothing and never reads past what it is
// given.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/clock.hpp"

namespace agentvm::git {

inline constexpr std::size_t pkt_limit_bytes = 65520;  ///< length field included

struct Pkt {
  enum class Kind { data, flush, need_more, bad } kind = Kind::need_more;
  std::string_view payload;  ///< with `data`; points into the input
  std::size_t consumed = 0;  ///< bytes of the input this packet took
};
/// The first packet of `input`.
Pkt parse_pkt(std::string_view input);

/// `payload` as one packet. Precondition: it fits.
std::string pkt(std::string_view payload);
inline constexpr std::string_view flush_pkt = "0000";

/// Packets from a descriptor, under a byte cap and a deadline. Not thread-safe.
class PktStream {
 public:
  PktStream(int in, int out, std::uint64_t limit_bytes, Deadline deadline);
  /// The next packet; valid until the next call. Throws `operation_failed` on garbage, the cap or an early end,
  /// `timed_out` at the deadline.
  Pkt next();
  void send(std::string_view data);
  std::uint64_t received_bytes() const { return received_; }

 private:
  int in_, out_;
  std::uint64_t limit_, received_ = 0;
  Deadline deadline_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0, end_ = 0;
};

/// Ends a conversation that needs no answer: an other side that has left already changes nothing.
void say_goodbye(PktStream& stream);

}  // namespace agentvm::git
