#pragma once
// A request for an image, resolved: everything that decides the result, and its digest.

#include <string>
#include <vector>

#include "guest/image/images.hpp"
#include "guest/image/recipe.hpp"
#include "guest/image/sources.hpp"

namespace agentvm {

struct ResolvedRequest {
  Recipe recipe;
  std::vector<PackageSource> sources;
  std::filesystem::path guest_program;
  std::string root_digest;  ///< decides kernel, modules and root disk
  std::string digest;       ///< the above and the guest program: decides the image
};

/// Throws `usage` for a bad recipe, `not_found` for a missing one, `host_lacks` when agentvm-guest is not there.
ResolvedRequest resolve_request(const ImageRequest& request);

}  // namespace agentvm
