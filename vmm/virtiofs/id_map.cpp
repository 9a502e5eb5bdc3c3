#include "vmm/virtiofs/id_map.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/process.hpp"

namespace agentvm {
namespace {

constexpr unsigned id_count = 65536;  // guest ids 0..65535, nobody included
constexpr unsigned default_root_first = 100000;
constexpr std::string_view subordinate_example = "100000-165535";

std::optional<unsigned> parse_number(std::string_view text) {
  unsigned value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

std::string user_name(uid_t uid) {
  std::vector<char> buffer(16384);
  passwd entry{}, *found = nullptr;
  if (::getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found) == 0 && found) return found->pw_name;
  return std::to_string(uid);
}

unsigned host_id(const std::vector<IdRange>& ranges, unsigned guest_id) {
  for (const auto& range : ranges)
    if (guest_id >= range.inside && guest_id - range.inside < range.count)
      return range.outside + (guest_id - range.inside);
  throw Error(ErrorCode::usage, fmt::format("guest id {} is not mapped", guest_id));
}

std::vector<IdRange> root_ranges(const std::vector<SubordinateRange>& ranges) {
  for (const auto& range : ranges)
    if (range.count >= id_count) return shifted_ranges(range.first);
  return shifted_ranges(default_root_first);
}

}  // namespace

std::vector<SubordinateRange> parse_subordinate_ids(std::string_view text, std::string_view user, uid_t uid) {
  std::vector<SubordinateRange> result;
  const auto number = std::to_string(uid);
  while (!text.empty()) {
    const auto line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const auto first_colon = line.find(':');
    const auto second_colon = first_colon == std::string_view::npos ? first_colon : line.find(':', first_colon + 1);
    if (second_colon == std::string_view::npos) continue;
    const auto owner = line.substr(0, first_colon);
    if (owner != user && owner != number) continue;
    const auto first = parse_number(line.substr(first_colon + 1, second_colon - first_colon - 1));
    const auto count = parse_number(line.substr(second_colon + 1));
    if (first && count && *first > 0 && *count > 0 && *count <= ~0u - *first) result.push_back({*first, *count});
  }
  return result;
}

std::vector<IdRange> user_ranges(const std::vector<SubordinateRange>& ranges, unsigned own_id, std::string_view user,
                                 std::string_view option) {
  const auto enough = [&](const SubordinateRange& range) {
    return range.count > agent_guest_id && (own_id < range.first || own_id - range.first >= range.count);
  };
  const auto found = std::find_if(ranges.begin(), ranges.end(), enough);
  if (found == ranges.end())
    throw Error(
        ErrorCode::host_lacks,
        fmt::format("user {} has no subordinate ids in /etc/sub{} (at least {}): the shared workspace needs them", user,
                    option == "--add-subuids" ? "uid" : "gid", agent_guest_id + 1),
        fmt::format("sudo usermod {} {} {}", option, subordinate_example, user));
  const unsigned above = std::min(found->count - agent_guest_id, id_count - agent_guest_id - 1);
  return {{0, found->first, agent_guest_id},
          {agent_guest_id, own_id, 1},
          {agent_guest_id + 1, found->first + agent_guest_id, above}};
}

std::vector<IdRange> shifted_ranges(unsigned first) {
  return {{0, first, id_count}};
}

IdMap host_id_map() {
  const auto uids = read_file_if_exists("/etc/subuid").value_or(""),
             gids = read_file_if_exists("/etc/subgid").value_or("");
  const uid_t uid = ::geteuid();
  const auto name = user_name(uid);
  if (uid == 0) {
    return {root_ranges(parse_subordinate_ids(uids, name, uid)), root_ranges(parse_subordinate_ids(gids, name, uid))};
  }
  for (const char* program : {"newuidmap", "newgidmap"})
    if (find_program(program).empty())
      throw Error(ErrorCode::host_lacks,
                  fmt::format("the program {} is not installed: the shared workspace needs it", program),
                  "sudo apt install uidmap");
  return {user_ranges(parse_subordinate_ids(uids, name, uid), uid, name, "--add-subuids"),
          user_ranges(parse_subordinate_ids(gids, name, uid), ::getegid(), name, "--add-subgids")};
}

WorkspaceOwner workspace_owner(const IdMap& map) {
  return {host_id(map.uids, agent_guest_id), host_id(map.gids, agent_guest_id)};
}

WorkspaceOwner workspace_owner() {
  // Without subordinate ids a user cannot share a folder, but the answer is the same: itself.
  if (::geteuid() != 0) return {::geteuid(), ::getegid()};
  return workspace_owner(host_id_map());
}

}  // namespace agentvm
