// pkt-line and the reference advertisement from any bytes: no crash, no over-read, and what is selected obeys the name
// rules.
#include <cstdint>
#include <cstdlib>

#include "sync/git/advertisement.hpp"
#include "sync/git/pkt_line.hpp"
#include "vmm/base/error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace agentvm;
  std::string_view input(reinterpret_cast<const char*>(data), size);
  git::Advertisement advertisement;
  try {
    for (bool first = true;; first = false) {
      const auto packet = git::parse_pkt(input);
      if (packet.kind == git::Pkt::Kind::need_more || packet.kind == git::Pkt::Kind::bad) break;
      if (packet.consumed < 4 || packet.consumed > input.size()) std::abort();
      if (packet.kind == git::Pkt::Kind::data) git::add_advertised(advertisement, packet.payload, first, 100);
      input.remove_prefix(packet.consumed);
    }
  } catch (const Error&) {
  }
  const auto selection = sync::select_branches(advertisement.refs);
  for (const auto& [branch, tip] : selection.branches)
    if (sync::refname_problem("refs/heads/" + branch) || sync::is_reserved_branch(branch) || !sync::is_oid(tip))
      std::abort();
  for (const auto& [tag, tip] : selection.tags)
    if (sync::refname_problem("refs/tags/" + tag) || !sync::is_oid(tip)) std::abort();
  if (const auto head = advertisement.head_branch(); !head.empty() && sync::refname_problem("refs/heads/" + head))
    std::abort();
  return 0;
}
