// libFuzzer entry for everything a guest can send to the host over its agent port. The first byte says how the rest is
// cut into reads and whether a session is established; the rest is the guest's bytes.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "guest/control/session.hpp"

namespace {

using namespace agentvm;
using namespace agentvm::guest;

void demand(bool holds) {
  if (!holds) std::abort();
}

constexpr std::size_t output_limit_bytes = 1000;

void feed(Session& session, std::string_view bytes, std::size_t piece) {
  while (!bytes.empty()) {
    session.receive(bytes.substr(0, piece));
    bytes.remove_prefix(std::min(piece, bytes.size()));
    // Whatever came, what is to be sent stays bounded, and a lost session says why and sends nothing.
    demand(session.outgoing().size() <= outgoing_limit_bytes + (1u << 20));
    demand(session.lost().empty() || session.outgoing().empty());
  }
}

void check_parser(std::string_view bytes, std::size_t piece) {
  FrameParser parser(FrameParser::Garbage::skip);
  std::size_t in_frames = 0;
  for (auto rest = bytes; !rest.empty(); rest.remove_prefix(std::min(piece, rest.size()))) {
    parser.feed(rest.substr(0, piece));
    while (const auto frame = parser.next()) {
      const auto again = encode(*frame);
      demand(bytes.find(again) != std::string_view::npos);
      in_frames += again.size();
    }
    demand(parser.buffered_bytes() <= frame_header_bytes + frame_payload_limit_bytes + piece);
  }
  demand(in_frames + parser.skipped_bytes() + parser.buffered_bytes() == bytes.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::size_t piece = data[0] & 0x7F ? data[0] & 0x7F : 65536;
  check_parser(bytes, piece);

  Session session("n");
  session.say_hello();
  if (data[0] & 0x80) {
    session.receive(encode({FrameType::response, 0, 1, "{\"nonce\":\"n\",\"protocol\":1}"}));
    demand(session.hello_reply().has_value());
    const auto first = session.request({{"op", "exec"}}, output_limit_bytes);
    const auto second = session.request({{"op", "time"}});
    demand(first == 2 && second == 3);
    session.abandon(session.request({{"op", "sync"}}));  // 4
  }
  feed(session, bytes, piece);
  for (const std::uint32_t id : {2U, 3U}) {
    if (!session.look(id)) continue;
    const auto reply = session.take(id);
    demand(reply.out.size() <= output_limit_bytes && reply.err.size() <= output_limit_bytes);
    if (reply.error) demand(std::string_view(reply.error->what()).find('\x1b') == std::string_view::npos);
  }
  int events = 0;
  while (session.take_event()) ++events;
  demand(events <= 16);
  return 0;
}
