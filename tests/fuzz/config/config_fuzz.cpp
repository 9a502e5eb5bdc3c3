// libFuzzer entry for agentvm.yaml, which a guest may have written: whatever it says, the answer is a configuration or
// an error that may be shown on a terminal; nothing beyond the harmless counts; and what is shown as a value can be
// written down again.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "vmm/base/error.hpp"
#include "vmm/config.hpp"

namespace {

using namespace agentvm;

void demand(bool holds) {
  if (!holds) std::abort();
}

bool fits_a_terminal(const std::string& text) {
  for (const char c : text)
    if ((static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') || c == 0x7f) return false;
  return true;
}

void check_project(const ConfigFile& file, const Config& standard) {
  const auto config = resolve_config({.project = file});
  for (const auto& key : config_keys())
    if (key.key_class != KeyClass::harmless) demand(config.at(key.name).value == standard.at(key.name).value);
  for (const auto& warning : config.warnings()) demand(fits_a_terminal(warning));
  for (const auto& asked : widening_values(file)) demand(asked.key->key_class == KeyClass::widening);
}

void check_user(const ConfigFile& file) {
  const auto config = resolve_config({.user = file});
  std::string again;
  for (const auto& key : config_keys()) {
    const auto& [value, origin] = config.at(key.name);
    if (origin.layer == ConfigLayer::user) again += std::string(key.name) + ": " + dump_json(value) + "\n";
  }
  // JSON is YAML: each value means itself.
  const auto second = resolve_config({.user = ConfigFile{"/again.yaml", again}});
  for (const auto& key : config_keys()) demand(config.at(key.name).value == second.at(key.name).value);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  static const auto standard = resolve_config({});
  for (const bool of_project : {true, false}) try {
      const ConfigFile file{"/project/agentvm.yaml", text};
      of_project ? check_project(file, standard) : check_user(file);
    } catch (const Error& error) {
      demand(error.code() == ErrorCode::usage || (of_project && error.code() == ErrorCode::decision_needed));
      demand(fits_a_terminal(error.what()) && fits_a_terminal(error.hint()));
      demand(std::string(error.what()).starts_with("/project/agentvm.yaml:"));
    }
  return 0;
}
