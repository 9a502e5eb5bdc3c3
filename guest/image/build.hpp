#pragma once
// The steps of a build, as the program agentvm-image runs them.

#include <filesystem>

#include "guest/image/images.hpp"

namespace agentvm {

/// Builds (or finds) the image in this process and its children. The caller is a process of its own: it may be killed
/// at any time.
Image build_image(const ImageRequest& request, const Progress& progress, Deadline deadline);

/// Inside the namespaces: makes root.raw, kernel and modules.cpio in `folder` from its request.json.
void assemble_image(const std::filesystem::path& folder, const Progress& progress, Deadline deadline);

/// Removes a folder whose files may belong to subordinate ids of ours.
void remove_foreign_tree(const std::filesystem::path& folder, const std::filesystem::path& libexec, Deadline deadline);

}  // namespace agentvm
