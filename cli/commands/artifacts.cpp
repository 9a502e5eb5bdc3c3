// `sync --artifacts`.
#include <filesystem>

#include <fmt/format.h>

#include "cli/client/invocation.hpp"
#include "cli/commands/commands.hpp"
#include "cli/render/render.hpp"

namespace agentvm::cli {

int bring_artifacts(Invocation& run) {
  for (const char* other : {"branch", "watch"})
    if (run.args.given(other))
      throw Error(ErrorCode::usage, fmt::format("--artifacts and --{} exclude each other", other), "agentvm help sync");
  auto params = run.params();
  params["globs"] = run.args.all("artifacts");
  params["dry_run"] = run.args.enabled("dry-run");
  params["accept"] = run.args.enabled("accept");
  if (run.args.given("to")) params["to"] = std::filesystem::absolute(run.args.text("to")).lexically_normal().string();
  const auto result = run.call("artifacts", params);
  run.show(result, render_artifacts(result, run.out.out_style()));
  return text_at(result, "result") == "gated" ? exit_code(ErrorCode::decision_needed) : 0;
}

}  // namespace agentvm::cli
