#pragma once
// Images: built from a recipe, kept by digest below the data folder, never changed once they are there.
//
// A folder <images>/<digest>/ holds kernel, initrd, root.raw, modules.cpio and image.json. It appears by one rename,
// when everything in it is on disk. All functions may be called from any thread; builds of one folder take turns by a
// lock file.

#include <filesystem>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include "vmm/base/clock.hpp"
#include "vmm/base/json.hpp"
#include "vmm/base/progress.hpp"

namespace agentvm {

struct Image {
  std::string digest;  ///< 64 hex digits, the folder's name
  std::filesystem::path folder, kernel, initrd;
  std::filesystem::path root;  ///< sparse raw ext4; the base of overlays, never written
  /// Where programs of this host may read the kernel's modules: `root`, but of an imported image, whose root is
  /// somebody else's, a link to the root of the image that its kernel came from.
  std::filesystem::path modules_root;
  std::string name, suite;  ///< of the recipe; an imported one has no suite
  std::string imported;     ///< the system that it was made from, cleaned; empty: built from a recipe
  std::string kernel_version;
  std::string request;           ///< digest of what was asked for; a refreshed image has the same and another `digest`
  std::int64_t created = 0;      ///< seconds since 1970
  std::uint64_t size_bytes = 0;  ///< disk space in use by the folder (shared parts counted in full)
  std::string damage;            ///< why nothing can be started from it; empty: nothing is known against it
  Json sealed = Json::object();  ///< file -> {"bytes", "sha256"} as built; empty in images of versions before that

  /// The object in image.json (paths left out).
  Json to_json() const;
};

enum class BuildMode {
  reuse,    ///< an image for the same request is the answer
  refresh,  ///< builds anew with today's packages; older images stay for the sandboxes on them
};

struct ImageRequest {
  std::filesystem::path images;            ///< <data>/images; made (0700) when it is absent
  std::filesystem::path cache;             ///< folder for downloaded packages; made when it is absent
  std::filesystem::path libexec;           ///< where agentvm-image and agentvm-guest are
  std::filesystem::path recipe;            ///< a YAML file; empty: the default recipe
  std::vector<std::string> layers;         ///< that the recipe gets besides its own, see `image_layers`
  std::filesystem::path apt = "/etc/apt";  ///< the host's package sources
  BuildMode mode = BuildMode::reuse;
  std::stop_token stop;  ///< ends a build that runs: `cancelled`, nothing is left
};

/// The image for `request`, built when there is none: by the program agentvm-image, which dies with the calling thread
/// and leaves nothing behind. Progress steps: image-wait, image-packages, image-settings, image-disk, image-store.
/// Throws `usage` (recipe), `host_lacks` (disk, programs, user ids), `operation_failed` with the cause, `timed_out`.
Image ensure_image(const ImageRequest& request, const Progress& progress, Deadline deadline);

/// The newest image for `request`; reads files only.
std::optional<Image> find_image(const ImageRequest& request);

/// All images, newest first, those with a file missing or cut short too: they have `damage`. A missing folder is an
/// empty list.
std::vector<Image> list_images(const std::filesystem::path& images);

/// By digest or an unambiguous beginning of it (at least 4 digits), or by name (the newest, without damage where there
/// is one). Throws `not_found`.
Image get_image(const std::filesystem::path& images, const std::string& digest_or_name);

/// Reads the image whole, which takes seconds: what differs from what was built, with its cause; empty: nothing. Throws
/// `timed_out`.
std::string find_damage(const Image& image, Deadline deadline);

/// Writes down what `find_damage` found, so that nothing is started from it and another one is built; empty: takes it
/// back.
void note_damage(const Image& image, const std::string& damage);

/// Throws `operation_failed`, with the command that removes it, for an image with `damage`.
void refuse_damaged(const Image& image);

/// Takes it out of sight in one step, then frees it. The caller knows whether a sandbox's disk stands on it.
void remove_image(const std::filesystem::path& images, const Image& image);

struct Pruned {
  std::vector<Image> images;
  std::uint64_t freed_bytes = 0;
};
/// Removes all images but those whose digest is in `in_use`, and what interrupted builds left. Waits for no build:
/// `wrong_state` when one runs.
Pruned prune_images(const std::filesystem::path& images, const std::filesystem::path& libexec,
                    const std::set<std::string>& in_use);

}  // namespace agentvm
