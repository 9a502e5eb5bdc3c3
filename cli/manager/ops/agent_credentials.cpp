#include "cli/manager/ops/agent_credentials.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "vmm/base/error.hpp"

namespace agentvm::manager {
namespace {

constexpr std::size_t limit_bytes = 128u << 10;  // of one; quoted, all of them have to pass in one request of 1 MiB

}  // namespace

std::vector<guest::AgentFile> read_credentials(const guest::AgentDefinition& agent, const fs::path& home,
                                               const std::function<void(const std::string&)>& warn) {
  std::vector<guest::AgentFile> lent;
  bool any = false;
  for (const auto& path : agent.credentials) try {
      std::error_code ignored;
      const auto status = fs::status(home / path, ignored);
      if (!fs::exists(status)) continue;
      any = true;
      if (!fs::is_regular_file(status)) throw Error(ErrorCode::operation_failed, "is no file");
      auto text = read_file(home / path, limit_bytes);
      if (text.find('\0') != std::string::npos) throw Error(ErrorCode::operation_failed, "has a NUL in it");
      lent.push_back({path, std::move(text)});
    } catch (const Error& error) {
      warn(fmt::format("credentials.copy: {} is not lent: {}", (home / path).string(), error.what()));
    }
  if (agent.credentials.empty())
    warn(fmt::format("credentials.copy: it is not known where {} keeps its login", agent.title));
  else if (!any)
    warn(fmt::format("credentials.copy: {} has no login in {} (looked for {})", agent.title, home.string(),
                     fmt::join(agent.credentials, ", ")));
  return lent;
}

}  // namespace agentvm::manager
