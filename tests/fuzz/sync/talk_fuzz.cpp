// What the guest's receive-pack reports, and the verdicts of a child that was taken over: no crash, no success that was
// not said, no name that breaks the rules, no text that a terminal would obey.
#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "sync/git/push_client.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/text.hpp"

namespace {

using namespace agentvm;

void require(bool holds) {
  if (!holds) std::abort();
}

void report(std::string_view input) {
  constexpr const char* ref = "refs/heads/main";
  git::PushReport report(ref);
  bool unpacked = false, taken = false;
  while (!input.empty()) {
    const auto end = std::min(input.find('\n'), input.size());
    const auto line = input.substr(0, end);
    input.remove_prefix(std::min(end + 1, input.size()));
    unpacked = unpacked || line == "unpack ok";
    taken = taken || line == std::string("ok ") + ref;
    report.add(line);
  }
  const auto answer = report.answer();
  require(!answer.done || (unpacked && taken));
  require(answer.done == answer.refusal.empty());
  require(clean_guest_text(answer.refusal) == answer.refusal);
}

void verdict(std::string_view input) {
  const auto verdict = sync::verdict_from_json(parse_json(input, "fuzz"));
  for (const auto& [branch, tip] : verdict.branches)
    require(!sync::refname_problem("refs/heads/" + branch) && !sync::is_reserved_branch(branch) && sync::is_oid(tip));
  for (const auto& [tag, tip] : verdict.tags) require(!sync::refname_problem("refs/tags/" + tag) && sync::is_oid(tip));
  for (const auto& ref : verdict.rejected)
    require(clean_guest_text(ref.name) == ref.name && clean_guest_text(ref.reason) == ref.reason);
  require(verdict.pack.empty() || sync::is_oid(verdict.pack));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0 || size > (64u << 10)) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    data[0] % 2 == 0 ? report(input) : verdict(input);
  } catch (const Error&) {
  }
  return 0;
}
