#pragma once
// Debian packages into a folder: mmdebstrap, watched.

#include <filesystem>
#include <string>

#include "guest/image/recipe.hpp"
#include "vmm/base/clock.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/progress.hpp"

namespace agentvm {

struct BootstrapRequest {
  std::filesystem::path tree;           ///< made by mmdebstrap; must not exist
  std::filesystem::path kernel_folder;  ///< exists and is empty: the kernel's package ends here
  std::filesystem::path packages;       ///< cache of .deb files, kept between builds; exists
  std::filesystem::path scratch;        ///< TMPDIR; exists
  std::filesystem::path log;            ///< everything that mmdebstrap says
  std::string sources;                  ///< a sources.list
};

/// Installs the recipe's packages. Needs to be root of a user namespace with a range of ids, and its own mount
/// namespace. Throws `operation_failed` with the line that names the cause, `host_lacks` for a full disk or a missing
/// mmdebstrap.
void install_packages(const Recipe& recipe, const BootstrapRequest& request, const Progress& progress,
                      Deadline deadline);

/// How far an apt run is, told by its output.
class AptProgress {
 public:
  explicit AptProgress(const Progress& progress) : progress_(progress) {}
  void line(std::string_view text);

 private:
  const Progress& progress_;
  int expected_ = 0, unpacked_ = 0, set_up_ = 0, shown_ = -1;
  std::string phase_ = "reading the package lists";
};

/// The error that a log of apt, dpkg or mke2fs tells of.
Error explain_failure(std::string_view log, const std::string& what, const std::filesystem::path& log_file);

}  // namespace agentvm
