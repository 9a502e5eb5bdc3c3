#include "vmm/base/paths.hpp"

#include <cstdlib>

#include <fmt/format.h>
#include <unistd.h>

#include "vmm/base/digest.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/process.hpp"

namespace agentvm {

namespace fs = std::filesystem;

fs::path Paths::sockets(const std::string& name) const {
  constexpr std::size_t digits = 8;
  return state / "s" / sha256_hex(name).substr(0, digits);
}

fs::path Paths::manager_socket() const {
  // Two state folders of one user (AGENTVM_HOME unset, XDG_STATE_HOME changed) must not share a manager.
  constexpr std::size_t digits = 8;
  return runtime / fmt::format("manager-{}.sock", sha256_hex(state.string()).substr(0, digits));
}

fs::path Paths::manager_address() const {
  return state / "manager.address";
}

Paths resolve_paths(const std::function<std::string(const std::string&)>& lookup) {
  Paths paths;
  const auto folder = fs::path(executable_dir());
  // build/bin/agentvm and build/libexec/agentvm/agentvm-manager, or the same below an installation prefix.
  paths.libexec = folder.filename() == "agentvm" ? folder : folder.parent_path() / "libexec" / "agentvm";
  const auto absolute = [&](const std::string& variable) -> fs::path {
    const fs::path value = lookup(variable);
    if (!value.empty() && !value.is_absolute())
      throw Error(ErrorCode::usage, fmt::format("{} is '{}', which is not an absolute path", variable, value.string()));
    return value;
  };
  if (const auto home = absolute("AGENTVM_HOME"); !home.empty()) {
    paths.config_file = home / "config" / "config.yaml";
    paths.state = home / "state";
    paths.data = home / "data";
    paths.runtime = home / "run";
  } else {
    const auto home_dir = absolute("HOME");
    const auto xdg = [&](const std::string& variable, const char* fallback) {
      const fs::path value = lookup(variable);  // relative values are ignored, as the XDG specification says
      if (value.is_absolute()) return value;
      if (home_dir.empty())
        throw Error(ErrorCode::host_lacks, fmt::format("neither HOME nor {} is set", variable), "export HOME=...");
      return home_dir / fallback;
    };
    paths.config_file = xdg("XDG_CONFIG_HOME", ".config") / "agentvm" / "config.yaml";
    paths.state = xdg("XDG_STATE_HOME", ".local/state") / "agentvm";
    paths.data = xdg("XDG_DATA_HOME", ".local/share") / "agentvm";
    const fs::path runtime = lookup("XDG_RUNTIME_DIR");
    // Without a login session there is no runtime folder; /tmp names are guessable, so the state folder serves.
    paths.runtime =
        runtime.is_absolute() && ::access(runtime.c_str(), W_OK) == 0 ? runtime / "agentvm" : paths.state / "run";
  }
  if (const auto config = absolute("AGENTVM_CONFIG"); !config.empty()) paths.config_file = config;
  return paths;
}

Paths resolve_paths() {
  return resolve_paths([](const std::string& name) {
    const char* value = std::getenv(name.c_str());
    return std::string(value ? value : "");
  });
}

}  // namespace agentvm
