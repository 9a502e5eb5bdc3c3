#include "cli/manager/ops/template_store.hpp"

#include <algorithm>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include "cli/manager/ops/state_files.hpp"
#include "vmm/base/digest.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/text.hpp"
#include "vmm/disk/overlay.hpp"

namespace agentvm::manager {
namespace {

constexpr const char* description_file = "template.json";
constexpr const char* schema = "agentvm.template/1";
constexpr std::string_view unfinished = ".making-";
constexpr std::size_t description_limit_bytes = 64u << 10;

/// What can be compared without reading hundreds of megabytes.
Json measures(const MachineTemplate& made) {
  auto json = measure_state({made.devices(), made.memory(), {}});
  std::error_code absent;
  const auto length = fs::file_size(made.disk(), absent);
  json["disk_bytes"] = absent ? std::uintmax_t(0) : length;
  return json;
}

bool as_measured(const Json& then, const Json& now) {
  return state_is_as_measured(then, now) && value_or<Json>(then, "disk_bytes", nullptr) == now.at("disk_bytes");
}

std::int64_t last_use(const MachineTemplate& one) {
  struct stat status {};
  return ::stat((one.folder / description_file).c_str(), &status) < 0 ? 0 : status.st_mtime;
}

}  // namespace

Json TemplateShape::to_json() const {
  return {{"image", image},
          {"root", root},
          {"guest", guest},
          {"layer", layer},
          {"memory_bytes", memory_bytes},
          {"vcpus", vcpus},
          {"accelerator", accelerator},
          {"nested", nested},
          {"network", network},
          {"emulator", emulator},
          {"libvirt", libvirt},
          {"host", host},
          {"definition", definition},
          {"version", version},
          {"uid", uid}};
}

std::string TemplateShape::key() const {
  return sha256_hex(dump_json(to_json()));
}

Json MachineTemplate::to_json() const {
  return {{"key", key},
          {"image", value_or<std::string>(shape, "image", "")},
          {"accelerator", value_or<std::string>(shape, "accelerator", "")},
          {"memory_bytes", value_or<std::uint64_t>(shape, "memory_bytes", 0)},
          {"vcpus", value_or<unsigned>(shape, "vcpus", 0)},
          {"size_bytes", size_bytes},
          {"created", format_time(created)}};
}

std::optional<MachineTemplate> TemplateStore::read(const fs::path& folder, std::string& why_not) const {
  const auto text = read_file_if_exists(folder / description_file, description_limit_bytes);
  if (!text) {
    why_not = "there is no template of its shape yet";
    return std::nullopt;
  }
  MachineTemplate found;
  found.key = folder.filename();
  found.folder = folder;
  const auto json = parse_json(*text, "the description of a template");
  if (value_or<std::string>(json, "schema", "") != schema)
    throw Error(ErrorCode::operation_failed, "it is of another version");
  found.shape = require<Json>(json, "shape");
  found.nonce = require<std::string>(json, "nonce");
  found.created = require<std::int64_t>(json, "created");
  if (!as_measured(require<Json>(json, "files"), measures(found)))
    throw Error(ErrorCode::operation_failed, "its files are not as they were written");
  found.size_bytes = allocated_bytes(found.disk()) + allocated_bytes(found.devices()) + allocated_bytes(found.memory());
  return found;
}

std::optional<MachineTemplate> TemplateStore::find(const TemplateShape& shape, std::string& why_not) const {
  const auto key = shape.key();
  try {
    auto found = read(folder_ / key, why_not);
    if (found && found->shape != shape.to_json())
      throw Error(ErrorCode::operation_failed, "it was made for another machine, emulator or version");
    return found;
  } catch (const std::exception& problem) {
    why_not = fmt::format("the template {} cannot be used and is removed: {}", key.substr(0, 12), problem.what());
    log::warn("template", "{}", why_not);
    remove(key);
    return std::nullopt;
  }
}

std::vector<MachineTemplate> TemplateStore::list() const {
  std::vector<std::pair<std::int64_t, MachineTemplate>> used;
  std::error_code absent;
  for (const auto& entry : fs::directory_iterator(folder_, absent)) {
    if (entry.path().filename().string().starts_with(unfinished) || !entry.is_directory()) continue;
    try {
      std::string ignored;
      if (auto found = read(entry.path(), ignored)) used.emplace_back(last_use(*found), std::move(*found));
    } catch (const std::exception& problem) {
      log::info("template", "{}: {}", entry.path().string(), problem.what());
    }
  }
  std::stable_sort(used.begin(), used.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  std::vector<MachineTemplate> result;
  for (auto& [time, found] : used) result.push_back(std::move(found));
  return result;
}

bool TemplateStore::is_still(const MachineTemplate& found) const {
  const auto text = read_file_if_exists(found.folder / description_file, description_limit_bytes);
  return text && value_or<std::string>(parse_json(*text, "the description of a template"), "nonce", "") == found.nonce;
}

void TemplateStore::note_use(const MachineTemplate& found) const {
  ::utimensat(AT_FDCWD, (found.folder / description_file).c_str(), nullptr, 0);
}

std::uint64_t TemplateStore::remove(const std::string& key) const {
  if (key.size() != 64 || key.find_first_not_of("0123456789abcdef") != key.npos)
    throw Error(ErrorCode::usage, "'" + key + "' is no key of a template");
  const auto folder = folder_ / key;
  std::uint64_t freed = 0;
  std::error_code absent;
  for (const auto& entry : fs::directory_iterator(folder, absent)) freed += allocated_bytes(entry.path());
  const auto hidden = folder_ / fmt::format("{}{}", unfinished, random_hex(8));
  if (::rename(folder.c_str(), hidden.c_str()) == 0) remove_tree(hidden);  // out of sight in one step
  return freed;
}

void TemplateStore::sweep() const {
  std::error_code absent;
  for (const auto& entry : fs::directory_iterator(folder_, absent))
    if (entry.path().filename().string().starts_with(unfinished)) remove_tree(entry.path());
}

fs::path TemplateStore::begin() const {
  sweep();
  const auto folder = folder_ / fmt::format("{}{}", unfinished, random_hex(8));
  ensure_private_dir(folder);
  return folder;
}

MachineTemplate TemplateStore::publish(const fs::path& made, const TemplateShape& shape, const std::string& nonce,
                                       std::int64_t now) const {
  MachineTemplate result;
  result.folder = made;
  const Json json{
      {"schema", schema}, {"shape", shape.to_json()}, {"nonce", nonce}, {"created", now}, {"files", measures(result)}};
  for (const auto& path : {result.disk(), result.devices(), result.memory()})
    if (::fsync(open_file(path, O_RDONLY).get()) < 0) throw_errno(path.string());
  write_file_atomic(made / description_file, dump_json(json));
  const auto place = folder_ / shape.key();
  remove(shape.key());
  check_errno(::rename(made.c_str(), place.c_str()), "keeping the template");
  sync_dir(folder_);
  std::string why_not;
  const auto found = find(shape, why_not);
  if (!found) throw Error(ErrorCode::operation_failed, why_not);
  return *found;
}

std::uint64_t TemplateStore::trim(std::size_t count, const std::function<bool(const MachineTemplate&)>& keep) const {
  std::uint64_t freed = 0;
  std::size_t kept = 0;
  for (const auto& one : list()) {
    if (keep(one) && kept < count)
      ++kept;
    else
      freed += remove(one.key);
  }
  return freed;
}

}  // namespace agentvm::manager
