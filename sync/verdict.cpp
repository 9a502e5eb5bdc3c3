#include "sync/verdict.hpp"

#include "vmm/base/text.hpp"

namespace agentvm::sync {

Json to_json(const SyncLimits& limits) {
  return {{"bytes", limits.bytes},
          {"expanded_bytes", limits.expanded_bytes},
          {"object_bytes", limits.object_bytes},
          {"objects", limits.objects},
          {"refs", limits.refs},
          {"memory", limits.memory},
          {"seconds", limits.seconds}};
}

SyncLimits limits_from_json(const Json& json) {
  SyncLimits limits;
  limits.bytes = value_or(json, "bytes", limits.bytes);
  limits.expanded_bytes = value_or(json, "expanded_bytes", limits.expanded_bytes);
  limits.object_bytes = value_or(json, "object_bytes", limits.object_bytes);
  limits.objects = value_or(json, "objects", limits.objects);
  limits.refs = value_or(json, "refs", limits.refs);
  limits.memory = value_or(json, "memory", limits.memory);
  limits.seconds = value_or(json, "seconds", limits.seconds);
  return limits;
}

Json to_json(const FetchRequest& request) {
  return {{"limits", to_json(request.limits)},
          {"object_dirs", request.object_dirs},
          {"list_only", request.list_only},
          {"loose", request.loose},
          {"tags", request.tags},
          {"detached_head", request.detached_head},
          {"preferred_haves", request.preferred_haves}};
}

FetchRequest request_from_json(const Json& json) {
  FetchRequest request;
  request.limits = limits_from_json(require<Json>(json, "limits"));
  request.object_dirs = require<std::vector<std::string>>(json, "object_dirs");
  request.list_only = require<bool>(json, "list_only");
  request.loose = require<bool>(json, "loose");
  request.tags = require<bool>(json, "tags");
  request.detached_head = require<bool>(json, "detached_head");
  request.preferred_haves = require<std::size_t>(json, "preferred_haves");
  return request;
}

Json to_json(const FetchVerdict& verdict) {
  Json refs = Json::array(), tags = Json::array(), rejected = Json::array();
  for (const auto& [branch, tip] : verdict.branches) refs.push_back({{"branch", branch}, {"tip", tip}});
  for (const auto& [tag, tip] : verdict.tags) tags.push_back({{"tag", tag}, {"tip", tip}});
  for (const auto& ref : verdict.rejected)
    rejected.push_back({{"name", clean_guest_text(ref.name, Newlines::escape, 600)}, {"reason", ref.reason}});
  return {{"schema", "agentvm.git-verdict/1"},
          {"refs", refs},
          {"tags", tags},
          {"rejected", rejected},
          {"head_branch", verdict.head_branch},
          {"detached_head", verdict.detached_head},
          {"pack", verdict.pack},
          {"objects", verdict.objects},
          {"bytes", verdict.bytes}};
}

FetchVerdict verdict_from_json(const Json& json) {
  throw_refusal(json);
  FetchVerdict verdict;
  // The child's own selection is not taken on trust: names go through the same rules again.
  std::vector<AdvertisedRef> advertised;
  for (const auto& ref : require<Json>(json, "refs"))
    advertised.push_back(
        {std::string(branch_prefix) + require<std::string>(ref, "branch"), require<std::string>(ref, "tip")});
  for (const auto& ref : require<Json>(json, "tags"))
    advertised.push_back(
        {std::string(tag_prefix) + require<std::string>(ref, "tag"), require<std::string>(ref, "tip")});
  auto selection = select_branches(advertised);
  if (!selection.rejected.empty())
    throw Error(ErrorCode::operation_failed, "agentvm-git reported a branch that it must refuse");
  verdict.branches = std::move(selection.branches);
  verdict.tags = std::move(selection.tags);
  for (const auto& ref : require<Json>(json, "rejected"))
    verdict.rejected.push_back(
        {clean_guest_text(require<std::string>(ref, "name")), clean_guest_text(require<std::string>(ref, "reason"))});
  verdict.head_branch = require<std::string>(json, "head_branch");
  if (!verdict.head_branch.empty() && refname_problem(std::string(branch_prefix) + verdict.head_branch))
    verdict.head_branch.clear();
  verdict.detached_head = require<std::string>(json, "detached_head");
  if (!verdict.detached_head.empty() && !is_oid(verdict.detached_head))
    throw Error(ErrorCode::operation_failed, "agentvm-git reported a HEAD that is no object id");
  verdict.pack = require<std::string>(json, "pack");
  if (!verdict.pack.empty() && !is_oid(verdict.pack))
    throw Error(ErrorCode::operation_failed, "agentvm-git reported a bad pack name");
  verdict.objects = require<std::uint64_t>(json, "objects");
  verdict.bytes = require<std::uint64_t>(json, "bytes");
  return verdict;
}

void throw_refusal(const Json& json) {
  if (!json.is_object() || !json.contains("error")) return;
  throw Error(error_code_from(value_or<std::string>(json, "code", "")),
              clean_guest_text(require<std::string>(json, "error")),
              clean_guest_text(value_or<std::string>(json, "hint", "")));
}

Json to_json(const PushRequest& request) {
  return {{"branch", request.branch},
          {"old_tip", request.old_tip},
          {"new_tip", request.new_tip},
          {"limits", to_json(request.limits)}};
}

PushRequest push_request_from_json(const Json& json) {
  return {require<std::string>(json, "branch"), require<std::string>(json, "old_tip"),
          require<std::string>(json, "new_tip"), limits_from_json(require<Json>(json, "limits"))};
}

Json to_json(const PushAnswer& answer) {
  return {{"schema", "agentvm.git-push/1"}, {"done", answer.done}, {"refusal", answer.refusal}};
}

PushAnswer push_answer_from_json(const Json& json) {
  return {require<bool>(json, "done"), clean_guest_text(require<std::string>(json, "refusal"), Newlines::escape, 300)};
}

Json refusal_to_json(const Error& error) {
  return {{"schema", "agentvm.git-verdict/1"},
          {"error", clean_guest_text(error.what())},
          {"code", std::string(to_string(error.code()))},
          {"hint", error.hint()}};
}

}  // namespace agentvm::sync
