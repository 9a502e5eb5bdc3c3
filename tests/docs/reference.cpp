// Prints a generated page of docs/reference/: what check_reference.py compares with the file in the repository.
#include <iostream>
#include <string_view>

#include "proxy/egress/presets.hpp"
#include "vmm/config.hpp"
#include "vmm/decoys.hpp"
#include "vmm/lifecycle.hpp"
#include "vmm/secrets.hpp"

int main(int argc, char** argv) {
  const std::string_view page = argc == 2 ? argv[1] : "";
  if (page == "configuration")
    std::cout << agentvm::configuration_reference_markdown();
  else if (page == "egress-presets")
    std::cout << agentvm::egress::presets_reference_markdown();
  else if (page == "known-secrets")
    std::cout << agentvm::known_secrets_markdown();
  else if (page == "decoys")
    std::cout << agentvm::decoys_markdown();
  else if (page == "lifecycle")
    std::cout << "# States of a sandbox\n\nGenerated from the transition table in `vmm/lifecycle/`; an empty field is "
                 "a transition that is "
                 "refused.\n\n"
              << agentvm::lifecycle_markdown();
  else
    return 64;
  return 0;
}
