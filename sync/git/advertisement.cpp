#include "sync/git/advertisement.hpp"

#include <fmt/format.h>

#include "vmm/base/error.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::git {
namespace {

void add_capabilities(Advertisement& out, std::string_view text) {
  constexpr std::size_t limit_words = 1000;
  for (std::size_t start = 0; start < text.size() && out.capabilities.size() < limit_words;) {
    const auto end = std::min(text.find(' ', start), text.size());
    if (end > start) out.capabilities.emplace(text.substr(start, end - start));
    start = end + 1;
  }
  for (const auto& word : out.capabilities)
    if (word.starts_with("object-format=") && word != "object-format=sha1")
      throw Error(ErrorCode::operation_failed,
                  "the sandbox's repository does not use SHA-1 object names, which sync needs");
}

}  // namespace

std::string Advertisement::head_branch() const {
  constexpr std::string_view prefix = "symref=HEAD:refs/heads/";
  for (const auto& word : capabilities)
    if (word.starts_with(prefix) &&
        !sync::refname_problem(std::string_view(word).substr(prefix.size() - sync::branch_prefix.size())))
      return word.substr(prefix.size());
  return {};
}

std::string Advertisement::head_tip() const {
  for (const auto& ref : refs)
    if (ref.name == "HEAD" && ref.oid != std::string(sync::oid_hex_length, '0')) return ref.oid;
  return {};
}

void add_advertised(Advertisement& out, std::string_view payload, bool first, std::size_t limit_refs) {
  if (payload.ends_with('\n')) payload.remove_suffix(1);
  if (payload.starts_with("ERR "))
    throw Error(ErrorCode::operation_failed,
                fmt::format("the guest's git says: {}", clean_guest_text(payload.substr(4), Newlines::escape, 300)));
  if (payload.starts_with("version "))
    throw Error(ErrorCode::operation_failed, "the guest's git answers in another protocol version");
  if (payload.starts_with("shallow "))
    throw Error(ErrorCode::operation_failed, "the sandbox's repository is shallow, so its history cannot be proven",
                "agentvm exec -- git fetch --unshallow");
  if (const auto zero = payload.find('\0'); zero != std::string_view::npos) {
    if (!first) throw Error(ErrorCode::operation_failed, "the guest's git sent capabilities twice");
    add_capabilities(out, payload.substr(zero + 1));
    payload = payload.substr(0, zero);
  }
  constexpr auto id = sync::oid_hex_length;
  if (payload.size() < id + 2 || payload[id] != ' ' || !sync::is_oid(payload.substr(0, id)))
    throw Error(ErrorCode::operation_failed, "the guest's git sent a line that is no reference");
  const auto name = payload.substr(id + 1);
  if (name.ends_with("^{}")) return;  // also "capabilities^{}", by which an empty repository names what it can
  if (out.refs.size() >= limit_refs)
    throw Error(ErrorCode::operation_failed,
                fmt::format("the sandbox has more than {} references (sync.limits.refs)", limit_refs));
  out.refs.push_back({std::string(name), std::string(payload.substr(0, id))});
}

Advertisement read_advertisement(PktStream& stream, std::size_t limit_refs) {
  Advertisement result;
  for (bool first = true;; first = false) {
    const auto packet = stream.next();
    if (packet.kind == Pkt::Kind::flush) break;
    add_advertised(result, packet.payload, first, limit_refs);
  }
  return result;
}

}  // namespace agentvm::git
