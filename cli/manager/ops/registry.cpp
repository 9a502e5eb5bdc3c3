#include "cli/manager/ops/registry.hpp"

#include <fmt/format.h>

#include "cli/manager/ops/host_packages.hpp"
#include "guest/agents/locks.hpp"
#include "proxy/egress/sources.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/process.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds ask_limit{75'000};
constexpr std::size_t answer_limit_bytes = 4u << 20;
constexpr const char* default_registry = "https://registry.npmjs.org";
/// curl's own statuses.
constexpr int http_error = 22, untrusted_authority = 60;

RunResult run_curl(const std::string& url, const std::string& authorities) {
  ProcessSpec spec;
  spec.argv = {"curl",
               "--silent",
               "--show-error",
               "--fail",
               "--location",
               "--max-redirs",
               "5",
               "--proto",
               "=http,https",
               "--max-time",
               "60",
               "--connect-timeout",
               "20",
               "--max-filesize",
               std::to_string(answer_limit_bytes),
               "--write-out",
               "\n%{http_code}"};
  if (!authorities.empty()) spec.argv.insert(spec.argv.end(), {"--cacert", authorities});
  spec.argv.insert(spec.argv.end(), {"--", url});
  spec.die_with_parent = true;
  return run(std::move(spec), Deadline::after(ask_limit), {}, answer_limit_bytes + 16);
}

/// The answer's body.
std::string fetch(const std::string& url, const std::string& what) {
  auto result = run_curl(url, "");
  // What a company's own authority signed: those that npm and Node are told of, one after the other.
  for (const auto& file : egress::extra_authority_files(host_npm_config(), host_package_environment())) {
    if (result.status.code != untrusted_authority) break;
    result = run_curl(url, file);
  }
  const auto end = result.out.rfind('\n');
  const auto code = end == std::string::npos ? std::string() : result.out.substr(end + 1);
  if (result.status.code == http_error && code == "404")
    throw Error(ErrorCode::not_found, fmt::format("the registry has no {}", what), "npm config get registry");
  if (!result.status.ok() || end == std::string::npos)
    throw Error(ErrorCode::operation_failed,
                fmt::format("asking the registry for {}: {}", what,
                            clean_guest_text(result.err.substr(0, result.err.find('\n')), Newlines::escape, 300)),
                "npm config get registry");
  return result.out.substr(0, end);
}

}  // namespace

std::string npm_registry() {
  auto registry = host_npm_config().registry;
  return registry.empty() ? default_registry : registry;
}

guest::AgentPackage ask_registry(const guest::AgentPackage& package, const std::string& version) {
  const auto ask = [&](const std::string& wanted) {
    const auto what = package.name + " " + wanted;
    try {
      auto found =
          guest::parse_manifest(fetch(guest::manifest_url(npm_registry(), package.name, wanted), what), package.name);
      found.variant = package.variant;
      return found;
    } catch (Error& error) {
      if (error.code() == ErrorCode::not_found) throw;
      throw error.while_doing(what);
    }
  };
  const auto ending = "-" + package.variant;
  if (package.variant.empty() || version.ends_with(ending)) return ask(version);
  return ask((version == "latest" ? ask(version).version : version) + ending);
}

}  // namespace agentvm::manager
