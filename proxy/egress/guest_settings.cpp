#include "proxy/egress/guest_settings.hpp"

#include <fmt/format.h>

namespace agentvm::egress {

GuestSettings guest_settings(const NpmConfig& npm, const PipConfig& pip, std::uint16_t port) {
  const std::string proxy = fmt::format("http://127.0.0.1:{}", port);
  const std::string direct = "localhost,127.0.0.1,::1";
  GuestSettings settings;
  std::string profile = "# The sandbox's only way out; agentvm decides on the host what it may reach.\n";
  std::string service = "[Manager]\nDefaultEnvironment=";
  const auto set = [&](const std::string& name, const std::string& value) {
    const std::string line = fmt::format("{}={}", name, value);
    settings.environment.push_back(line);
    profile += fmt::format("export {}\n", line);
    service += fmt::format("\"{}\" ", line);
  };
  for (const char* name : {"http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"}) set(name, proxy);
  for (const char* name : {"no_proxy", "NO_PROXY"}) set(name, direct);
  // cargo heeds https_proxy but for what git configuration it finds; this wins over both. ALL_PROXY stays unset: httpx,
  // on which the Python libraries of model APIs stand, then wants a SOCKS package that is not there.
  set("CARGO_HTTP_PROXY", proxy);
  // Node's own fetch ignores the variables unless told (22.21 and later, 24).
  set("NODE_USE_ENV_PROXY", "1");
  // Where only Debian's npm looks by itself; others look below the folder that their Node was unpacked to.
  set("npm_config_globalconfig", "/etc/npmrc");
  service.back() = '\n';
  settings.files.push_back({"/etc/profile.d/agentvm-proxy.sh", profile});
  settings.files.push_back({"/etc/systemd/system.conf.d/90-agentvm-proxy.conf", service});
  // One request per connection is what the proxy answers: with apt's pipelining the rest of each batch would be sent
  // again.
  settings.files.push_back(
      {"/etc/apt/apt.conf.d/90agentvm-proxy",
       fmt::format(
           "Acquire::http::Proxy \"{0}\";\nAcquire::https::Proxy \"{0}\";\nAcquire::http::Pipeline-Depth \"0\";\n",
           proxy)});
  std::string npmrc = fmt::format("proxy={0}\nhttps-proxy={0}\nnoproxy={1}\n", proxy, direct);
  if (!npm.registry.empty()) npmrc += "registry=" + npm.registry + "\n";
  settings.files.push_back({"/etc/npmrc", npmrc});
  std::string pip_conf = fmt::format("[global]\nproxy = {}\n", proxy);
  if (!pip.index.empty()) pip_conf += "index-url = " + pip.index + "\n";
  settings.files.push_back({"/etc/pip.conf", pip_conf});
  // Browsers encrypt whom they ask for, or pretend to (see docs/adr/0010), which the proxy cannot let pass.
  for (const char* folder : {"/etc/chromium", "/etc/opt/chrome", "/etc/opt/chrome_for_testing"})
    settings.files.push_back(
        {fmt::format("{}/policies/managed/agentvm.json", folder), "{\"EncryptedClientHelloEnabled\": false}\n"});
  settings.files.push_back(
      {"/etc/firefox/policies/policies.json", "{\"policies\": {\"DisableEncryptedClientHello\": true}}\n"});
  settings.git.push_back({"http.proxy", proxy});
  return settings;
}

}  // namespace agentvm::egress
