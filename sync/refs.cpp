#include "sync/refs.hpp"

#include <algorithm>

#include "vmm/base/clock.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::sync {
namespace {

constexpr std::size_t name_limit_bytes = 512;
constexpr std::size_t component_limit_bytes = 200;

std::optional<std::string> component_problem(std::string_view part) {
  if (part.empty()) return "has an empty component";
  if (part.front() == '.') return "has a component that starts with '.'";
  if (part.front() == '-') return "has a component that starts with '-'";
  if (part.ends_with(".lock")) return "has a component that ends in '.lock'";
  if (part.size() > component_limit_bytes) return "has a component that is too long";
  return std::nullopt;
}

bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const std::size_t length = lead < 0x80 ? 1 : lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead >= 0x80 && (lead < 0xC2 || lead > 0xF4)) return false;
    if (i + length > text.size()) return false;
    for (std::size_t k = 1; k < length; ++k)
      if ((static_cast<unsigned char>(text[i + k]) & 0xC0) != 0x80) return false;
    const auto second = length > 1 ? static_cast<unsigned char>(text[i + 1]) : 0;
    if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) || (lead == 0xF0 && second < 0x90) ||
        (lead == 0xF4 && second > 0x8F))
      return false;
    i += length;
  }
  return true;
}

}  // namespace

bool is_oid(std::string_view text) {
  return text.size() == oid_hex_length &&
         std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

std::optional<std::string> refname_problem(std::string_view name) {
  if (name.empty()) return "is empty";
  if (name.size() > name_limit_bytes) return "is too long";
  if (!is_utf8(name)) return "is not UTF-8";
  for (const char raw : name) {
    const auto c = static_cast<unsigned char>(raw);
    if (c < 0x20 || c == 0x7F) return "has a control character";
    if (std::string_view(" ~^:?*[\\").find(raw) != std::string_view::npos)
      return std::string("has the character '") + raw + "'";
  }
  if (clean_guest_text(name) != name) return "has a character that hides or reorders text";
  if (name.find("..") != std::string_view::npos) return "has '..'";
  if (name.find("@{") != std::string_view::npos) return "has '@{'";
  if (name.back() == '.') return "ends in '.'";
  for (std::size_t start = 0; start <= name.size();) {
    const auto end = std::min(name.find('/', start), name.size());
    if (auto problem = component_problem(name.substr(start, end - start))) return problem;
    start = end + 1;
  }
  if (name.find('/') == std::string_view::npos) return "has only one component";
  return std::nullopt;
}

bool is_reserved_branch(std::string_view branch) {
  const auto first = branch.substr(0, branch.find('/'));
  return first == "wip" || first == "old" || first == "tags";
}

std::string mirror_ref(std::string_view sandbox, std::string_view branch) {
  return "refs/agentvm/" + std::string(sandbox) + "/" + std::string(branch);
}

std::string old_ref(std::string_view sandbox, std::string_view stamp, std::string_view branch) {
  return "refs/agentvm/" + std::string(sandbox) + "/old/" + std::string(stamp) + "/" + std::string(branch);
}

std::string ref_stamp(std::int64_t unix_seconds) {
  auto text = format_time(unix_seconds);
  std::erase_if(text, [](char c) { return c == '-' || c == ':'; });
  return text;
}

namespace {

/// A file and a folder cannot share a name. Sorted, so that a parent is always seen before its children.
void reject_clashes(std::map<std::string, std::string>& names, std::string_view prefix,
                    std::vector<RejectedRef>& rejected) {
  for (auto entry = names.begin(); entry != names.end();) {
    bool clash = false;
    for (auto slash = entry->first.find('/'); slash != std::string::npos && !clash;
         slash = entry->first.find('/', slash + 1))
      clash = names.contains(entry->first.substr(0, slash));
    if (clash)
      rejected.push_back({std::string(prefix) + entry->first, "cannot exist beside a reference named like its folder"});
    entry = clash ? names.erase(entry) : std::next(entry);
  }
}

}  // namespace

BranchSelection select_branches(const std::vector<AdvertisedRef>& advertised) {
  BranchSelection result;
  const auto reject = [&](const AdvertisedRef& ref, std::string reason) {
    result.rejected.push_back({ref.name, std::move(reason)});
  };
  for (const auto& ref : advertised) {
    const bool is_tag = ref.name.starts_with(tag_prefix);
    if (!is_tag && !ref.name.starts_with(branch_prefix)) {
      // Names elsewhere are not ours to judge, unless they pretend to be something else ("refs/../heads").
      if (ref.name.find("..") != std::string::npos) reject(ref, "has '..'");
      continue;
    }
    const auto name = ref.name.substr((is_tag ? tag_prefix : branch_prefix).size());
    if (auto problem = refname_problem(ref.name))
      reject(ref, *problem);
    else if (name == "HEAD")
      reject(ref, "is called HEAD");
    else if (!is_tag && is_reserved_branch(name))
      reject(ref, "uses a name that agentvm keeps for itself (wip, old, tags); rename the branch in the sandbox");
    else if (!is_oid(ref.oid) || ref.oid == std::string(oid_hex_length, '0'))
      reject(ref, "has no valid object id");
    else if (!(is_tag ? result.tags : result.branches).emplace(name, ref.oid).second)
      reject(ref, "is advertised twice");
  }
  reject_clashes(result.branches, branch_prefix, result.rejected);
  reject_clashes(result.tags, tag_prefix, result.rejected);
  return result;
}

}  // namespace agentvm::sync
