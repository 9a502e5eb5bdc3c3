#pragma once
// The folder of images as this library alone sees it: names of files, and what interrupted builds left.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "guest/image/images.hpp"

namespace agentvm {

std::filesystem::path build_lock(const std::filesystem::path& images);
/// What the last build's programs said; stays after a failure.
std::filesystem::path build_log(const std::filesystem::path& images);

/// Nothing when the folder is no complete image.
std::optional<Image> read_image(const std::filesystem::path& folder);
std::optional<Image> find_by_request(const std::filesystem::path& images, const std::string& request);
std::string root_digest_of(const Image& image);
/// Folders of builds and removals that did not end. Only the holder of the build lock may touch them.
std::vector<std::filesystem::path> leftovers(const std::filesystem::path& images);
/// Under the lock of the builds: nobody uses them then.
void remove_leftovers(const std::filesystem::path& images, const std::filesystem::path& libexec, Deadline deadline);
/// Blocks in use by the files of one folder.
std::uint64_t folder_bytes(const std::filesystem::path& folder);

}  // namespace agentvm
