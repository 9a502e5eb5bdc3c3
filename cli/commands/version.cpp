#include "cli/client/invocation.hpp"
#include "cli/commands/commands.hpp"

namespace agentvm::cli {
namespace {

int version(Invocation& run) {
  run.show({{"schema", "agentvm.version/1"}, {"version", AGENTVM_VERSION}}, "agentvm " AGENTVM_VERSION "\n");
  return 0;
}

}  // namespace

CommandSpec version_command() {
  return {.name = "version",
          .group = "Host and settings",
          .summary = "Print the version (also --version)",
          .options = {json_option()},
          .run = version};
}

}  // namespace agentvm::cli
