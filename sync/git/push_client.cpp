#include "sync/git/push_client.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "sync/git/advertisement.hpp"
#include "sync/git/pkt_line.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/fd.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::git {
namespace {

constexpr int report_lines_limit = 16;  ///< two are expected
constexpr std::uint64_t answer_limit_bytes = 64u << 20;

std::string words(std::string_view text) {
  return clean_guest_text(text, Newlines::escape, 300);
}

}  // namespace

void PushReport::add(std::string_view line) {
  if (++lines_ > report_lines_limit)
    throw Error(ErrorCode::operation_failed, "the guest's git does not end its report");
  if (line.ends_with('\n')) line.remove_suffix(1);
  if (line == "unpack ok") {
    unpacked_ = true;
  } else if (line.starts_with("unpack ")) {
    refusal_ = words(line.substr(7));
  } else if (line == "ok " + ref_) {
    taken_ = true;
  } else if (line.starts_with("ng " + ref_ + " ")) {
    refusal_ = words(line.substr(ref_.size() + 4));
  } else {
    throw Error(ErrorCode::operation_failed, "the guest's git reported something else than was sent");
  }
}

sync::PushAnswer PushReport::answer() const {
  if (unpacked_ && taken_ && refusal_.empty()) return {true, ""};
  return {false, refusal_.empty() ? "its git does not say why" : refusal_};
}

sync::PushAnswer push(const sync::PushRequest& request, int in, int out, int pack) {
  const auto deadline = Deadline::after(std::chrono::seconds(request.limits.seconds));
  const auto ref = std::string(sync::branch_prefix) + request.branch;
  PktStream stream(in, out, answer_limit_bytes, deadline);
  const auto advertisement = read_advertisement(stream, request.limits.refs);
  const auto found = std::find_if(advertisement.refs.begin(), advertisement.refs.end(),
                                  [&](const auto& known) { return known.name == ref; });
  const auto there = found == advertisement.refs.end() ? "" : found->oid;
  if (there != request.old_tip) {
    say_goodbye(stream);
    return {false, "its branch moved meanwhile"};
  }
  if (!advertisement.has("report-status"))
    throw Error(ErrorCode::operation_failed, "the guest's git is too old: it has no report-status");
  const auto old_tip = there.empty() ? std::string(sync::oid_hex_length, '0') : there;
  stream.send(pkt(old_tip + " " + request.new_tip + " " + ref + std::string(1, '\0') + " report-status") +
              std::string(flush_pkt));
  char buffer[65536];
  while (const auto count = read_some(pack, buffer, sizeof buffer, deadline)) stream.send({buffer, count});
  PushReport report(ref);
  for (;;) {
    const auto packet = stream.next();
    if (packet.kind == Pkt::Kind::flush) return report.answer();
    report.add(packet.payload);
  }
}

}  // namespace agentvm::git
