#include "cli/client/invocation.hpp"

#include <unistd.h>

#include "vmm/config.hpp"

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

Json agent_variables(Invocation& run, const Json& start_params) {
  Json found = Json::object();
  const auto answer = run.call("agents.variables", start_params);
  const auto pass = value_or<std::vector<std::string>>(answer, "pass", {});
  const auto deny = value_or<std::vector<std::string>>(answer, "deny", {});
  const auto secrets = value_or<std::vector<std::string>>(answer, "secrets", {});
  for (char** entry = environ; (!pass.empty() || !secrets.empty()) && *entry; ++entry) {
    const std::string_view text = *entry;
    const auto equals = text.find('=');
    if (equals == text.npos || equals == 0) continue;
    const auto name = text.substr(0, equals);
    const bool of_agent = names_variable(pass, name) && !names_variable(deny, name);
    if (of_agent || names_variable(secrets, name)) found[std::string(name)] = text.substr(equals + 1);
  }
  return found;
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
