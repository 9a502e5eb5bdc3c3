#include "vmm/config.hpp"

#include <filesystem>

#include "cli/client/invocation.hpp"
#include "cli/commands/commands.hpp"
#include "cli/render/render.hpp"

namespace agentvm::cli {
namespace {

void warn_all(Invocation& run, const Json& result) {
  if (run.out.json()) return;
  for (const auto& warning : list_at(result, "warnings"))
    if (warning.is_string()) run.out.warn(clean(warning.get<std::string>()));
}

int show(Invocation& run) {
  const auto result = run.call("config.show", request_params());
  run.show(result, render_config(result, run.out.out_style(), run.out.width()));
  warn_all(run, result);
  warn_all(run, object_at(result, "egress"));
  return 0;
}

int validate(Invocation& run) {
  auto params = request_params();
  if (const auto file = run.args.positional(0))
    params["file"] = std::filesystem::absolute(*file).lexically_normal().string();
  const auto result = run.call("config.validate", params);
  if (run.out.json()) run.out.print_json(result);
  warn_all(run, result);
  run.out.say("valid");
  return 0;
}

/// The table is in this program: no manager is asked.
int schema(Invocation& run) {
  run.out.print_json(config_schema());
  return 0;
}

}  // namespace

std::vector<CommandSpec> config_commands() {
  return {
      {.name = "config show",
       .group = "Host and settings",
       .summary = "Show every setting, its value here and where it comes from",
       .options = {json_option()},
       .run = show},
      {.name = "config validate",
       .group = "Host and settings",
       .summary = "Check the configuration files; an error names file, line and column",
       .arguments =
           {{.name = "FILE",
             .help =
                 "One file instead of those in force here; agentvm.yaml is judged as a project's, others as your own",
             .complete = Complete::file}},
       .options = {json_option()},
       .run = validate},
      {.name = "config schema",
       .group = "Host and settings",
       .summary = "Print the JSON Schema of agentvm.yaml and config.yaml, for editors and CI",
       .options = {json_option()},
       .examples = {{"agentvm config schema > ~/.config/agentvm/schema.json",
                     "then begin agentvm.yaml with: # yaml-language-server: $schema=~/.config/agentvm/schema.json"}},
       .run = schema}};
}

}  // namespace agentvm::cli
