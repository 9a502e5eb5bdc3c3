#include <filesystem>

#include <fmt/format.h>

#include "cli/client/invocation.hpp"
#include "cli/client/terminal.hpp"
#include "cli/commands/commands.hpp"
#include "cli/render/render.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::cli {
namespace {

int build(Invocation& run) {
  if (run.args.given("agents")) return build_agents(run);
  auto params = request_params();
  if (run.args.given("recipe"))
    params["recipe"] = std::filesystem::absolute(run.args.text("recipe")).lexically_normal().string();
  if (run.args.given("layers")) params["layers"] = listed_names(run.args.text("layers"));
  params["template"] = run.args.enabled("template");
  const auto result = run.call("image.build", params);
  run.show(result, fmt::format("{} {}\n", text_at(result, "name"), text_at(result, "digest")));
  if (const auto& made = object_at(result, "template"); !made.empty() && !run.out.json())
    run.out.say(fmt::format("template {} for {} of memory, {}", text_at(made, "key").substr(0, 12),
                            size(number_at(made, "memory_bytes")), size(number_at(made, "size_bytes"))));
  return 0;
}

int import(Invocation& run) {
  auto params = request_params();
  params["file"] = std::filesystem::absolute(*run.args.positional(0)).lexically_normal().string();
  params["name"] = run.args.text("name");
  if (run.args.text("name").empty())
    throw Error(ErrorCode::usage, "an imported image needs a name",
                "agentvm image import " + shell_word(*run.args.positional(0)) + " --name NAME");
  const auto result = run.call("image.import", params);
  run.show(result, fmt::format("{} {} ({})\n", text_at(result, "name"), text_at(result, "digest"),
                               text_at(result, "imported")));
  return 0;
}

int list(Invocation& run) {
  const auto result = run.call("image.list", request_params());
  run.show(result, render_images(result, run.out.out_style(), run.out.width()));
  if (!run.out.json() && list_at(result, "images").empty()) run.out.say("no image yet: agentvm image build");
  return 0;
}

Json named(Invocation& run) {
  auto params = request_params();
  params["name"] = *run.args.positional(0);
  return params;
}

int inspect(Invocation& run) {
  auto params = named(run);
  params["verify"] = run.args.given("verify");
  const auto result = run.call("image.inspect", params);
  run.show(result, render_image(result, run.out.out_style()));
  return text_at(result, "damage", "").empty() ? 0 : 3;
}

int remove(Invocation& run) {
  const auto result = run.call("image.remove", named(run));
  if (run.out.json()) run.out.print_json(result);
  run.out.say(
      fmt::format("removed {}, {} freed", clean(*run.args.positional(0)), size(number_at(result, "freed_bytes"))));
  return 0;
}

int prune(Invocation& run) {
  const auto result = run.call("image.prune", request_params());
  if (run.out.json()) run.out.print_json(result);
  run.out.say(fmt::format("{} removed, {} freed",
                          counted(static_cast<std::int64_t>(list_at(result, "images").size()), "image"),
                          size(number_at(result, "freed_bytes"))));
  return 0;
}

ArgumentSpec image_argument() {
  return {.name = "IMAGE",
          .help = "An image's name or the beginning of its digest",
          .required = true,
          .complete = Complete::image};
}

CommandSpec make(std::string name, std::string summary, int (*function)(Invocation&)) {
  return {.name = "image " + std::move(name),
          .group = "Images",
          .summary = std::move(summary),
          .options = {json_option()},
          .run = function};
}

}  // namespace

std::vector<CommandSpec> image_commands() {
  auto build_spec = make("build", "Build the guest image from a recipe", build);
  build_spec.description = "The same recipe gives the same digest, and an image that exists is not built again.";
  build_spec.options.insert(build_spec.options.begin(), {.name = "recipe",
                                                         .letter = 'r',
                                                         .value = "FILE",
                                                         .help = "A YAML recipe; default: the built-in one",
                                                         .complete = Complete::file});
  build_spec.options.push_back(
      {.name = "layers", .value = "NAMES", .help = "What it gets besides (a,b): containers, hypervisor"});
  build_spec.options.push_back(
      {.name = "template",
       .help = "Make a template of it, too: a new sandbox of the project here then goes on from there (warm: true)"});
  build_spec.options.push_back(
      {.name = "agents",
       .value = "NAMES",
       .help = "Install these agent programs instead (a,b): the layers that start --agent uses"});
  auto import_spec = make("import", "Make an image of somebody else's disk image", import);
  import_spec.description =
      "A distribution's cloud image, raw or qcow2: its system is copied and gets what a sandbox needs, the file is "
      "only "
      "read. The kernel is that of the default image.";
  import_spec.arguments = {{.name = "FILE", .help = "The disk image", .required = true, .complete = Complete::file}};
  import_spec.options.insert(import_spec.options.begin(),
                             {.name = "name", .value = "NAME", .help = "What start --image calls it"});
  import_spec.examples = {{"agentvm image import debian-12-genericcloud-amd64.qcow2 --name cloud", "import it"},
                          {"agentvm start --image cloud", "and start a sandbox from it"}};
  auto inspect_spec = make("inspect", "Show what is in an image", inspect);
  inspect_spec.arguments = {image_argument()};
  inspect_spec.options.push_back({.name = "verify", .help = "Read the image whole and compare it with what was built"});
  auto remove_spec = make("remove", "Remove an image that no sandbox uses", remove);
  remove_spec.arguments = {image_argument()};
  return {build_spec,
          import_spec,
          make("list", "List the images", list),
          inspect_spec,
          remove_spec,
          make("prune", "Remove images that no sandbox uses and what interrupted builds left", prune)};
}

}  // namespace agentvm::cli
