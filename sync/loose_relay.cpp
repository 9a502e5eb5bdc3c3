#include "sync/loose_relay.hpp"

#include <fmt/format.h>
#include <sys/socket.h>

#include "sync/git/pkt_line.hpp"
#include "sync/refs.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/log.hpp"

namespace agentvm::sync {
namespace {

constexpr std::string_view want = "want ";
constexpr std::uint64_t requests_limit_bytes = 4u << 20;
constexpr std::size_t chunk_bytes = 32u << 10;

std::string advertised(const LooseSource::References& references) {
  std::string capabilities(1, '\0'), text;
  if (!references.head.empty()) capabilities += "symref=HEAD:" + references.head;
  const auto add = [&](const std::string& id, std::string_view name) {
    text += git::pkt(fmt::format("{} {}{}\n", id, name, text.empty() ? capabilities : ""));
  };
  if (const auto head = references.tips.find(references.head); head != references.tips.end()) add(head->second, "HEAD");
  for (const auto& [name, id] : references.tips) add(id, name);
  if (text.empty()) add(std::string(oid_hex_length, '0'), "capabilities^{}");
  return text + std::string(git::flush_pkt);
}

/// The ids of one request; none when the child is done.
std::vector<std::string> read_request(git::PktStream& stream) {
  std::vector<std::string> ids;
  for (;;) {
    const auto packet = stream.next();
    if (packet.kind == git::Pkt::Kind::flush) return ids;
    if (!packet.payload.starts_with(want) || !is_oid(packet.payload.substr(want.size())) ||
        ids.size() >= loose_request_limit)
      throw Error(ErrorCode::operation_failed, "agentvm-git asks for something that is no object");
    ids.emplace_back(packet.payload.substr(want.size()));
  }
}

std::string answer(const std::map<std::string, std::string>& objects) {
  std::string text;
  for (const auto& [id, bytes] : objects) {
    text += git::pkt(fmt::format("{} {}", id, bytes.size()));
    for (std::string_view rest = bytes; !rest.empty(); rest.remove_prefix(std::min(rest.size(), chunk_bytes)))
      text += git::pkt(rest.substr(0, chunk_bytes));
  }
  return text + std::string(git::flush_pkt);
}

}  // namespace

LooseRelay::LooseRelay(const LooseSource& source, const LooseSource::References& references, Deadline deadline)
    : source_(source), deadline_(deadline) {
  int ends[2];
  check_errno(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), "socketpair");
  own_end_.reset(ends[0]);
  child_end_.reset(ends[1]);
  thread_ = std::jthread([this, text = advertised(references)](const std::stop_token& stop) { serve(stop, text); });
}

LooseRelay::~LooseRelay() {
  thread_.request_stop();
  ::shutdown(own_end_.get(), SHUT_RDWR);
}

void LooseRelay::serve(const std::stop_token& stop, const std::string& advertisement) {
  try {
    git::PktStream stream(own_end_.get(), own_end_.get(), requests_limit_bytes, deadline_);
    stream.send(advertisement);
    for (;;) {
      const auto ids = read_request(stream);
      if (ids.empty()) break;
      stream.send(answer(source_.objects(ids, stop, deadline_)));
    }
  } catch (const std::exception& error) {
    log::debug("sync", "reading loose objects: {}", error.what());
  }
  ::shutdown(own_end_.get(), SHUT_RDWR);
}

}  // namespace agentvm::sync
