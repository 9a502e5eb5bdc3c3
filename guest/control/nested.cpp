#include "guest/control/nested.hpp"

#include "guest/control/token.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::guest {
namespace {

constexpr std::size_t answer_limit_bytes = 4096, reason_limit_bytes = 200;
constexpr std::int64_t longest_nanoseconds = 3'600'000'000'000;

[[noreturn]] void refuse(const std::string& why) {
  throw Error(ErrorCode::operation_failed, "the guest's probe of nested virtualisation " + why);
}

std::int64_t span(const Json& body, const char* key) {
  const auto value = require<std::int64_t>(body, key);
  if (value < 0 || value > longest_nanoseconds) refuse("tells of impossible times");
  return value;
}

}  // namespace

NestedVerdict parse_nested_probe(const ControlResult& result) {
  if (result.signal != 0) refuse("did not end: the virtual machine hangs");
  if (result.code != 0) refuse("failed: " + clean_guest_text(result.err, Newlines::escape, reason_limit_bytes));
  const auto body = parse_json(result.out, "the guest's probe of nested virtualisation");
  NestedVerdict verdict;
  verdict.ran = require<bool>(body, "ran");
  if (!verdict.ran) {
    verdict.reason = clean_guest_text(require<std::string>(body, "reason"), Newlines::escape, reason_limit_bytes);
    return verdict;
  }
  const auto here = span(body, "here_ns"), inside = span(body, "inside_ns");
  verdict.ratio = inside > 0 ? static_cast<double>(here) / static_cast<double>(inside) : 0;
  verdict.exit_nanoseconds = span(body, "exit_ns");
  return verdict;
}

GuestNested parse_guest_nested(const Json& body) {
  GuestNested result;
  result.token = checked_token(body, "machines within it");
  const auto state = require<Json>(body, "nested");
  if (state.is_null()) return result;
  const auto limit = [&](const char* key) {
    return require<Json>(state, key).is_null() ? 0 : require<std::uint64_t>(state, key);
  };
  result.limited = true;
  result.memory_bytes = limit("memory_bytes");
  result.cpus = limit("cpus");
  result.machines = require<std::uint64_t>(state, "machines");
  result.ended = require<std::uint64_t>(state, "ended");
  return result;
}

NestedVerdict probe_nested(Control& control, Deadline deadline) {
  return parse_nested_probe(control.exec({.argv = {"/proc/self/exe", "nested-probe"}, .cwd = "/", .user = "agent"},
                                         deadline, answer_limit_bytes));
}

}  // namespace agentvm::guest
