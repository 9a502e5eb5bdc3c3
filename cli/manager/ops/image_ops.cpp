#include "cli/manager/ops/image_ops.hpp"

#include <fmt/format.h>

#include "cli/manager/ops/agent_layers.hpp"
#include "cli/manager/ops/agent_session.hpp"
#include "cli/manager/ops/boot.hpp"
#include "cli/manager/ops/requests.hpp"
#include "cli/manager/ops/start.hpp"
#include "guest/image/foreign_disk.hpp"
#include "guest/image/guestfs_child.hpp"
#include "guest/image/import.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds call_limit{60'000};
constexpr milliseconds build_limit{60 * 60'000};
constexpr milliseconds verify_limit{10 * 60'000};

/// Kept disks are the user's to remove; until then their image stays.
void add_kept_disks(const fs::path& folder, std::map<std::string, std::vector<std::string>>& users) {
  constexpr std::size_t limit_bytes = 256;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    if (entry.path().extension() != ".qcow2") continue;
    const auto digest = read_file_if_exists(entry.path().string() + ".image", limit_bytes).value_or("");
    users[digest.substr(0, digest.find('\n'))].push_back("kept disk " + entry.path().string());
  }
}

/// Digest -> who stands on it: names of sandboxes, and disks that outlived theirs.
std::map<std::string, std::vector<std::string>> image_users(Core& core) {
  std::map<std::string, std::vector<std::string>> users;
  const auto listing = core.store().list();
  for (const auto& record : listing.records)
    if (!record.image_digest.empty()) users[record.image_digest].push_back(record.name.str());
  add_kept_disks(core.kept_disks(), users);
  // A record that cannot be read may stand on any image: nothing may go while one is there.
  if (!listing.broken.empty())
    throw Error(ErrorCode::operation_failed,
                fmt::format("the record of '{}' cannot be read, so it is not known which images are in use",
                            listing.broken.front().name),
                "agentvm list");
  return users;
}

/// All of them: an image is removed with its templates.
void add_templates(Json& image, const std::vector<MachineTemplate>& templates) {
  image["templates"] = Json::array();
  for (const auto& one : templates)
    if (value_or<std::string>(one.shape, "image", "") == require<std::string>(image, "digest"))
      image["templates"].push_back(one.to_json());
}

std::uint64_t remove_templates(Core& core, const std::function<bool(const std::string&)>& of_image) {
  constexpr std::size_t any = 1'000'000;
  return TemplateStore(core.templates_folder()).trim(any, [&](const MachineTemplate& one) {
    return !of_image(value_or<std::string>(one.shape, "image", ""));
  });
}

/// For the sandbox that the project around `cwd` would have.
MachineTemplate make_template(Core& core, CallContext& call, const Json& params, const Image& image) {
  auto setting = read_client_setting(params);
  setting.path = setting.cwd;
  const auto plan = plan_request(core, setting);
  auto record = record_from_plan(plan, system_clock().unix_seconds());
  record.libvirt_uri = core.hypervisor(plan.libvirt_uri.value, Deadline::after(call_limit))->uri();
  choose_accelerator(core, call, record, image);
  if (const auto agent = agent_of(core, record); agent && agent->has_layer()) {
    ensure_layer(core, call, *agent, setting.environment);
    record.layer = guest::layer_key(*agent);
  }
  return core.templates().make(record, image, call.progress_function(), call.cancelled(), Deadline::after(build_limit));
}

Json image_json(const Image& image) {
  auto json = image.to_json();
  json["folder"] = image.folder.string();
  json["built"] = format_time(image.created);
  json["size_bytes"] = image.size_bytes;
  json["damage"] = image.damage.empty() ? Json(nullptr) : Json(image.damage);
  return json;
}

Json build(Core& core, CallContext& call, const Json& params) {
  auto request = core.image_request(text_or_empty(params, "recipe"));
  request.layers = value_or<std::vector<std::string>>(params, "layers", {});
  request.mode = value_or<bool>(params, "refresh", false) ? BuildMode::refresh : BuildMode::reuse;
  request.stop = call.cancelled();
  ensure_private_dir(core.paths().data);
  const auto image = ensure_image(request, call.progress_function(), Deadline::after(build_limit));
  auto json = image_json(image);
  json["schema"] = "agentvm.image/1";
  if (value_or<bool>(params, "template", false)) json["template"] = make_template(core, call, params, image).to_json();
  return json;
}

Json import(Core& core, CallContext& call, const Json& params) {
  ImportRequest request;
  request.file = require<std::string>(params, "file");
  request.name = require<std::string>(params, "name");
  request.images = core.paths().images();
  request.libexec = core.paths().libexec;
  request.appliances = core.appliances();
  request.sockets = core.paths().sockets("import");
  ensure_private_dir(core.paths().data);
  ensure_private_dir(request.images);
  check_foreign_disk(request.file);  // before an image is built for it
  auto base = core.image_request("");
  base.stop = call.cancelled();
  const auto deadline = Deadline::after(build_limit);
  request.base = ensure_image(base, call.progress_function(), deadline);
  request.accelerator = usable_accelerator(core, request.base);
  request.stop = call.cancelled();
  const auto imported = import_image(request, call.progress_function(), deadline);
  for (const auto& warning : imported.warnings) call.warning(warning);
  auto json = image_json(imported.image);
  json["schema"] = "agentvm.image/1";
  return json;
}

Json list(Core& core) {
  std::map<std::string, std::vector<std::string>> users;
  try {
    users = image_users(core);
  } catch (const Error&) {
    // The list is still worth seeing; remove and prune refuse.
  }
  Json result{{"schema", "agentvm.image-list/1"}, {"images", Json::array()}};
  const auto templates = TemplateStore(core.templates_folder()).list();
  for (const auto& image : list_images(core.paths().images())) {
    auto json = image_json(image);
    json["used_by"] = users[image.digest];
    add_templates(json, templates);
    result["images"].push_back(json);
  }
  return result;
}

Json inspect(Core& core, const Json& params) {
  const auto image = get_image(core.paths().images(), require<std::string>(params, "name"));
  auto json = image_json(image);
  json["schema"] = "agentvm.image/1";
  if (value_or<bool>(params, "verify", false)) {
    const auto damage = find_damage(image, Deadline::after(verify_limit));
    if (!image.sealed.empty()) note_damage(image, damage);
    json["verified"] = damage.empty() && !image.sealed.empty();
    json["damage"] = damage.empty() ? Json(nullptr) : Json(damage);
  }
  json["used_by"] = image_users(core)[require<std::string>(json, "digest")];
  add_templates(json, TemplateStore(core.templates_folder()).list());
  return json;
}

Json remove(Core& core, const Json& params) {
  const auto image = get_image(core.paths().images(), require<std::string>(params, "name"));
  if (const auto users = image_users(core)[image.digest]; !users.empty())
    throw Error(ErrorCode::wrong_state,
                fmt::format("image {} is in use by {}", image.digest.substr(0, 12), fmt::join(users, ", ")),
                users.front().starts_with("kept disk ") ? "rm " + users.front().substr(10)
                                                        : "agentvm destroy " + users.front());
  const auto freed = remove_templates(core, [&](const std::string& digest) { return digest == image.digest; });
  remove_image(core.paths().images(), image);
  return {{"schema", "agentvm.image-remove/1"}, {"digest", image.digest}, {"freed_bytes", image.size_bytes + freed}};
}

/// Those of sandboxes, and what the next start with an agent wants.
std::set<std::string> layers_in_use(Core& core) {
  std::set<std::string> keys;
  for (const auto& record : core.store().list().records) keys.insert(record.layer);
  for (const auto& agent : guest::agent_definitions(own_agents(core.paths()))) keys.insert(guest::layer_key(agent));
  return keys;
}

Json prune(Core& core) {
  std::set<std::string> in_use;
  for (const auto& [digest, names] : image_users(core)) in_use.insert(digest);
  // The newest default image is what the next start wants.
  if (const auto current = find_image(core.image_request(""))) in_use.insert(current->digest);
  const auto pruned = prune_images(core.paths().images(), core.paths().libexec, in_use);
  const auto images = core.paths().images();
  const auto freed = remove_templates(core, [&](const std::string& digest) { return !fs::exists(images / digest); }) +
                     pruned.freed_bytes + prune_appliances(core.appliances()) +
                     prune_layers(core.paths(), layers_in_use(core));
  Json result{{"schema", "agentvm.image-prune/1"}, {"images", Json::array()}, {"freed_bytes", freed}};
  for (const auto& image : pruned.images) result["images"].push_back(image_json(image));
  return result;
}

}  // namespace

void add_image_operations(Service& service, const std::shared_ptr<Core>& core) {
  service.add("image.build", Lane::work,
              [core](CallContext& call, const Json& params) { return build(*core, call, params); });
  service.add("image.import", Lane::work,
              [core](CallContext& call, const Json& params) { return import(*core, call, params); });
  service.add("image.list", Lane::quick, [core](CallContext&, const Json&) { return list(*core); });
  service.add("image.inspect", Lane::work, [core](CallContext&, const Json& params) { return inspect(*core, params); });
  service.add("image.remove", Lane::work, [core](CallContext&, const Json& params) { return remove(*core, params); });
  service.add("image.prune", Lane::work, [core](CallContext&, const Json&) { return prune(*core); });
}

}  // namespace agentvm::manager
