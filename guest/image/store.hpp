#pragma once
// The folder of images as this library alone sees it: names of files, and what interrupted builds left.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "guest/image/images.hpp"
#include "vmm/base/file_lock.hpp"

namespace agentvm {

/// Of an imported image: see `Image::modules_root`.
inline constexpr const char* base_root_file = "base.raw";

std::filesystem::path build_lock(const std::filesystem::path& images);
/// What the last build's programs said; stays after a failure.
std::filesystem::path build_log(const std::filesystem::path& images);

/// Nothing when the folder is none of an image; one whose files are not as they were built has `damage`.
std::optional<Image> read_image(const std::filesystem::path& folder);
std::optional<Image> find_by_request(const std::filesystem::path& images, const std::string& request);
std::string root_digest_of(const Image& image);
/// Folders of builds and removals that did not end. Only the holder of the build lock may touch them.
std::vector<std::filesystem::path> leftovers(const std::filesystem::path& images);
/// Under the lock of the builds: nobody uses them then.
void remove_leftovers(const std::filesystem::path& images, const std::filesystem::path& libexec, Deadline deadline);
/// Waits, and says so, while another build runs.
FileLock take_build_turn(const std::filesystem::path& images, const Progress& progress, Deadline deadline);
/// Writes image.json (`more` besides what `image` says; `sealed`: as for `seal_files`) and gives `folder`, which is
/// whole, the image's place.
Image publish_image(const std::filesystem::path& images, const std::filesystem::path& folder, const Image& image,
                    const Json& more, const Json& sealed);
/// Blocks in use by the files of one folder.
std::uint64_t folder_bytes(const std::filesystem::path& folder);

}  // namespace agentvm
