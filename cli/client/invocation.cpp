#include "cli/client/invocation.hpp"

#include <unistd.h>

namespace agentvm::cli {

Json Invocation::params() const {
  auto result = request_params();
  const auto& specs = args.command->arguments;
  if (!specs.empty() && specs[0].complete == Complete::sandbox)
    if (const auto name = args.positional(0)) result["name"] = *name;
  return result;
}

Json given_config_flags(const Arguments& arguments) {
  Json flags = Json::object();
  for (const auto& option : arguments.command->options)
    if (!option.key.empty() && arguments.given(option.name)) flags[option.key] = arguments.text(option.name);
  return flags;
}

bool ask(Output& output, const std::string& question) {
  output.clear_progress();
  write_all(STDERR_FILENO, question + " [y/N] ", Deadline::never());
  std::string answer;
  char c = 0;
  while (::read(STDIN_FILENO, &c, 1) == 1 && c != '\n')
    if (answer.size() < 16) answer += c;
  return answer == "y" || answer == "Y" || answer == "yes" || answer == "Yes";
}

}  // namespace agentvm::cli
