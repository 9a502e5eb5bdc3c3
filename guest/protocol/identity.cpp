#include "guest/protocol/identity.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "vmm/base/base64.hpp"

namespace agentvm::guest {
namespace {

[[noreturn]] void refuse(const std::string& key, const std::string& why) {
  throw Error(ErrorCode::operation_failed, fmt::format("identity: {}: {}", key, why));
}

bool all_of(const std::string& text, std::string_view allowed) {
  return text.find_first_not_of(allowed) == std::string::npos;
}

void check_path(const std::string& path) {
  if (path.size() < 2 || path[0] != '/' || path.size() > 1024)
    refuse("files", "'" + path + "' is not an absolute path");
  for (std::size_t start = 1; start <= path.size();) {
    const auto end = std::min(path.find('/', start), path.size());
    const auto part = path.substr(start, end - start);
    if (part.empty() || part == "." || part == ".." || part.find('\0') != std::string::npos || part.size() > 255)
      refuse("files", "'" + path + "' has a part that is not a name");
    start = end + 1;
  }
}

std::string_view to_string(WorkspaceKind kind) {
  return kind == WorkspaceKind::virtiofs ? "virtiofs" : kind == WorkspaceKind::disk ? "disk" : "none";
}

WorkspaceKind parse_workspace(const std::string& text) {
  for (const auto kind : {WorkspaceKind::none, WorkspaceKind::virtiofs, WorkspaceKind::disk})
    if (text == to_string(kind)) return kind;
  refuse("workspace", "'" + text + "' is not one of none, virtiofs, disk");
}

GuestNetwork parse_network(const Json& json) {
  GuestNetwork network;
  network.address = require<std::string>(json, "address");
  network.prefix = require<unsigned>(json, "prefix");
  network.gateway = value_or<std::string>(json, "gateway", "");
  network.resolv_conf = value_or<std::string>(json, "resolv_conf", "");
  if (network.prefix < 1 || network.prefix > 32) refuse("network", "the prefix is not between 1 and 32");
  return network;
}

GuestFile parse_file(const Json& json) {
  GuestFile file;
  file.path = require<std::string>(json, "path");
  check_path(file.path);
  file.mode = value_or<unsigned>(json, "mode", 0644);
  file.uid = value_or<unsigned>(json, "uid", 0);
  file.gid = value_or<unsigned>(json, "gid", 0);
  if (file.mode > 0777) refuse("files", fmt::format("mode {:o} of {} has bits beyond 0777", file.mode, file.path));
  file.content =
      json.contains("text") ? require<std::string>(json, "text") : base64_decode(require<std::string>(json, "base64"));
  return file;
}

}  // namespace

Json Identity::to_json() const {
  Json json = {{"hostname", hostname},
               {"machine_id", machine_id},
               {"host_key_private", host_key_private},
               {"host_key_public", host_key_public},
               {"authorized_keys", authorized_keys},
               {"workspace", to_string(workspace)},
               {"workspace_tag", workspace_tag},
               {"nested", nested},
               {"nested_memory", nested_memory},
               {"nested_cpus", nested_cpus},
               {"unix_ns", unix_ns},
               {"for_template", for_template},
               {"entropy", base64_encode(entropy)}};
  if (network)
    json["network"] = {{"address", network->address},
                       {"prefix", network->prefix},
                       {"gateway", network->gateway},
                       {"resolv_conf", network->resolv_conf}};
  json["files"] = Json::array();
  for (const auto& file : files)
    json["files"].push_back({{"path", file.path},
                             {"mode", file.mode},
                             {"uid", file.uid},
                             {"gid", file.gid},
                             {"base64", base64_encode(file.content)}});
  return json;
}

Identity Identity::from_json(const Json& json) {
  Identity identity;
  identity.hostname = require<std::string>(json, "hostname");
  if (identity.hostname.empty() || identity.hostname.size() > 63 ||
      !all_of(identity.hostname, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"))
    refuse("hostname", "not one DNS label");
  identity.machine_id = require<std::string>(json, "machine_id");
  if (identity.machine_id.size() != 32 || !all_of(identity.machine_id, "0123456789abcdef"))
    refuse("machine_id", "not 32 lower-case hex digits");
  identity.host_key_private = require<std::string>(json, "host_key_private");
  identity.host_key_public = require<std::string>(json, "host_key_public");
  identity.authorized_keys = require<std::string>(json, "authorized_keys");
  identity.workspace = parse_workspace(value_or<std::string>(json, "workspace", "none"));
  identity.workspace_tag = value_or<std::string>(json, "workspace_tag", "workspace");
  identity.nested = value_or(json, "nested", false);
  identity.nested_memory = value_or<std::uint64_t>(json, "nested_memory", 0);
  identity.nested_cpus = value_or<unsigned>(json, "nested_cpus", 0);
  identity.unix_ns = value_or<std::int64_t>(json, "unix_ns", 0);
  identity.for_template = value_or(json, "for_template", false);
  identity.entropy = base64_decode(value_or<std::string>(json, "entropy", ""));
  if (json.contains("network") && !json.at("network").is_null()) identity.network = parse_network(json.at("network"));
  for (const auto& file : value_or<Json>(json, "files", Json::array())) identity.files.push_back(parse_file(file));
  return identity;
}

}  // namespace agentvm::guest
