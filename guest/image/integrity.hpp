#pragma once
// Whether an image is what was built: a disk that filled up, a backup that was cut short and a bad sector leave a
// folder that looks like one. The guest is not asked: this is about this host's disk, not about anybody's intent.

#include <filesystem>
#include <string>

#include "guest/image/images.hpp"

namespace agentvm {

/// {"kernel": {"bytes", "sha256"}, "initrd": ..., "root.raw": ...}, for image.json. The digest goes over offset and
/// content of each MiB that is not all zero, so that holes count as the zeros they read as. Reads all of it, but what
/// is in `known`: files that are links to those of an image that was sealed.
Json seal_files(const std::filesystem::path& folder, const Json& known = Json::object());
/// What `note_damage` wrote down; empty: nothing.
std::string noted_damage(const std::filesystem::path& folder);

/// The cheap half: a file is missing, or has another size than `sealed` says. Empty where neither; an image of a
/// version that sealed nothing only has to be complete.
std::string size_damage(const std::filesystem::path& folder, const Json& sealed);

}  // namespace agentvm
