#pragma once
// Another system's disk becomes a root disk of ours: copied and settled within the appliance, so that no byte of it is
// ever a file of the host.

#include <string>

#include "guest/image/rescue/appliance.hpp"
#include "vmm/base/json.hpp"
#include "vmm/base/progress.hpp"

namespace agentvm::rescue {

/// Of a launched appliance: the one Linux system of /dev/sda is copied to /dev/sdb, an empty ext4, and gets what a
/// guest of ours needs; `kernel_version`'s modules come from /dev/sdc. {"system", "warnings"}: text of the disk, not
/// cleaned. Throws `operation_failed` for what cannot become a guest: no system or several, another processor's, no
/// sshd.
/// `memory`: as for `Appliance::list`.
Json import_system(Appliance& appliance, const std::string& kernel_version, int memory, const Progress& progress);

}  // namespace agentvm::rescue
