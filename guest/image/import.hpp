#pragma once
// Somebody else's disk image (a distribution's cloud image) becomes an image of ours: its system on a new root disk,
// with our kernel. The file itself is only read.

#include <filesystem>
#include <stop_token>
#include <string>
#include <vector>

#include "guest/image/images.hpp"
#include "vmm/hypervisor.hpp"

namespace agentvm {

struct ImportRequest {
  std::filesystem::path file;
  std::string name;              ///< of the new image: as a recipe's
  std::filesystem::path images;  ///< <data>/images
  Image base;                    ///< whose kernel, modules and first program the new one gets
  std::filesystem::path libexec;
  std::filesystem::path appliances;  ///< see `ApplianceSite::cache`
  std::filesystem::path sockets;     ///< see `ApplianceSite::sockets`
  Accelerator accelerator = Accelerator::tcg;
  std::stop_token stop;  ///< ends an import that runs: `cancelled`, nothing is left
};

struct Imported {
  Image image;
  std::vector<std::string> warnings;  ///< clean
};

/// Minutes where the appliance is emulated. Blocking; holds the lock of the builds. Throws `usage` (name),
/// `wrong_state` (the name is taken), `host_lacks` (disk, programs), `operation_failed` with what is wrong with the
/// file (see `check_foreign_disk`) or with the system on it, `timed_out`. Nothing is left then.
Imported import_image(const ImportRequest& request, const Progress& progress, Deadline deadline);

}  // namespace agentvm
