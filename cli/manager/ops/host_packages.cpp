#include "cli/manager/ops/host_packages.hpp"

#include <cstdlib>

#include "guest/image/sources.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::manager {
namespace {

std::vector<std::string> texts_of(const std::vector<fs::path>& files) {
  std::vector<std::string> texts;
  for (const auto& file : files)
    if (auto text = read_file_if_exists(file)) texts.push_back(std::move(*text));
  return texts;
}

fs::path home() {
  const char* value = std::getenv("HOME");
  return value ? value : "/nonexistent";
}

}  // namespace

std::map<std::string, std::string> host_package_environment() {
  std::map<std::string, std::string> found;
  for (const char* name : {"npm_config_registry", "NPM_CONFIG_REGISTRY", "npm_config_cafile", "NODE_EXTRA_CA_CERTS"})
    if (const char* value = std::getenv(name)) found[name] = value;
  return found;
}

egress::NpmConfig host_npm_config() {
  return egress::npm_config(texts_of({"/etc/npmrc", home() / ".npmrc"}), host_package_environment());
}

egress::PipConfig host_pip_config() {
  const char* config = std::getenv("XDG_CONFIG_HOME");
  return egress::pip_config(texts_of({"/etc/pip.conf", home() / ".pip" / "pip.conf",
                                      (config ? fs::path(config) : home() / ".config") / "pip" / "pip.conf"}));
}

std::vector<egress::HostRule> host_package_rules(const std::string& suite) {
  return egress::merged({egress::package_source_entries(render_sources(host_sources("/etc/apt", suite))),
                         host_npm_config().entries, host_pip_config().entries});
}

}  // namespace agentvm::manager
