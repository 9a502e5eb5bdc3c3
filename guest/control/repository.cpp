#include "guest/control/repository.hpp"

#include <algorithm>

#include "guest/protocol/objects.hpp"
#include "vmm/base/base64.hpp"
#include "vmm/base/error.hpp"

namespace agentvm::guest {
namespace {

[[noreturn]] void refuse(const char* what) {
  throw Error(ErrorCode::operation_failed, std::string("the guest's agent tells of its repository with ") + what);
}

bool is_branch_or_tag(const std::string& name) {
  return (name.starts_with("refs/heads/") || name.starts_with("refs/tags/")) && is_plain_reference(name);
}

}  // namespace

std::optional<GuestReferences> parse_guest_references(const Json& body) {
  if (!require<bool>(body, "whole")) return std::nullopt;
  GuestReferences result{require<std::string>(body, "head"), {}};
  if (!result.head.empty() && (!is_branch_or_tag(result.head) || !result.head.starts_with("refs/heads/")))
    refuse("a HEAD that is on no branch");
  const auto refs = require<Json>(body, "refs");
  if (!refs.is_object() || refs.size() > reference_limit) refuse("too many references");
  for (const auto& [name, id] : refs.items()) {
    if (!is_branch_or_tag(name) || !id.is_string() || !is_object_id(id.get<std::string>()))
      refuse("a malformed reference");
    result.tips.emplace(name, id.get<std::string>());
  }
  return result;
}

GuestObjects parse_guest_objects(const Json& body, const std::vector<std::string>& asked) {
  const auto objects = require<Json>(body, "objects");
  if (!objects.is_object() || objects.size() > asked.size()) refuse("objects that nobody asked for");
  GuestObjects result;
  std::size_t bytes = 0;
  for (const auto& [id, text] : objects.items()) {
    if (std::find(asked.begin(), asked.end(), id) == asked.end()) refuse("objects that nobody asked for");
    if (!text.is_string()) refuse("an object that is none");
    auto content = base64_decode(text.get_ref<const std::string&>());
    if ((bytes += content.size()) > object_answer_limit_bytes) refuse("larger objects than it may send");
    result.emplace(id, std::move(content));
  }
  return result;
}

}  // namespace agentvm::guest
