#include "guest/image/images.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <sys/stat.h>

#include "guest/image/build.hpp"
#include "guest/image/integrity.hpp"
#include "guest/image/request.hpp"
#include "guest/image/store.hpp"
#include "guest/image/wire.hpp"
#include "vmm/base/digest.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/file_lock.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"

namespace agentvm {
namespace {

constexpr std::size_t digest_digits = 64;
constexpr std::size_t shortest_prefix_digits = 4;

bool is_digest(const std::string& text) {
  return text.size() == digest_digits && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

/// Bytes that go back to the disk when the folder goes: files that another image links stay.
std::uint64_t own_bytes(const fs::path& folder) {
  std::uint64_t total = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    struct stat status {};
    if (::lstat(entry.path().c_str(), &status) == 0 && status.st_nlink == 1)
      total += static_cast<std::uint64_t>(status.st_blocks) * 512;
  }
  return total;
}

}  // namespace

Json Image::to_json() const {
  return {{"schema", "agentvm.image/1"},
          {"digest", digest},
          {"name", name},
          {"suite", suite},
          {"imported", imported.empty() ? Json(nullptr) : Json(imported)},
          {"kernel_version", kernel_version},
          {"created", format_time(created)},
          {"size_bytes", size_bytes},
          {"request", request}};
}

fs::path build_lock(const fs::path& images) {
  return images / ".build.lock";
}

fs::path build_log(const fs::path& images) {
  return images / "last-build.log";
}

std::uint64_t folder_bytes(const fs::path& folder) {
  std::uint64_t total = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    struct stat status {};
    if (::lstat(entry.path().c_str(), &status) == 0) total += static_cast<std::uint64_t>(status.st_blocks) * 512;
  }
  return total;
}

std::optional<Image> read_image(const fs::path& folder) {
  if (!is_digest(folder.filename().string())) return std::nullopt;
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) return std::nullopt;
  Image image;
  image.digest = folder.filename().string();
  image.folder = folder;
  image.kernel = folder / "kernel";
  image.initrd = folder / "initrd";
  image.root = image.modules_root = folder / "root.raw";
  try {
    const auto json = parse_json(read_file(folder / "image.json", 1u << 20), (folder / "image.json").string());
    image.name = require<std::string>(json, "name");
    image.suite = require<std::string>(json, "suite");
    if (json.contains("imported") && json["imported"].is_string()) image.imported = json["imported"];
    image.kernel_version = require<std::string>(json, "kernel_version");
    image.request = require<std::string>(json, "request");
    image.created = parse_time(require<std::string>(json, "created"));
    image.size_bytes = require<std::uint64_t>(json, "size_bytes");
    image.sealed = value_or<Json>(json, "files", Json::object());
    image.damage = size_damage(folder, image.sealed);
    if (image.damage.empty()) image.damage = noted_damage(folder);
    if (!image.imported.empty()) image.modules_root = folder / base_root_file;
  } catch (const Error& problem) {
    image.damage = problem.message();
  }
  return image;
}

std::vector<Image> list_images(const fs::path& images) {
  std::vector<Image> result;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(images, ignored))
    if (auto image = read_image(entry.path())) result.push_back(std::move(*image));
  std::sort(result.begin(), result.end(), [](const Image& a, const Image& b) {
    return std::tie(b.created, a.digest) < std::tie(a.created, b.digest);
  });
  return result;
}

std::optional<Image> find_by_request(const fs::path& images, const std::string& request) {
  for (auto& image : list_images(images))
    if (image.request == request && image.damage.empty()) return std::move(image);
  return std::nullopt;
}

std::optional<Image> find_image(const ImageRequest& request) {
  return find_by_request(request.images, resolve_request(request).digest);
}

std::string root_digest_of(const Image& image) {
  const auto text = read_file_if_exists(image.folder / "image.json", 1u << 20);
  return text ? value_or<std::string>(parse_json(*text, image.folder.string()), "root", "") : "";
}

namespace {

/// A build that was called off is killed with all that it started, and cannot clean up: that is done once its last
/// process let go of the lock. Who builds meanwhile does it, too.
void sweep_after_the_end(const ImageRequest& request) {
  try {
    const auto lock = FileLock::acquire(build_lock(request.images), Deadline::after(std::chrono::seconds(3)));
    remove_leftovers(request.images, request.libexec, Deadline::after(std::chrono::minutes(2)));
  } catch (const Error& error) {
    log::warn("image", "what an ended build left stays until the next one: {}", error.what());
  }
}

}  // namespace

Image ensure_image(const ImageRequest& request, const Progress& progress, Deadline deadline) {
  if (request.mode == BuildMode::reuse)
    if (auto image = find_image(request)) return *image;
  ensure_private_dir(request.images);
  std::vector<std::string> argv = {(request.libexec / "agentvm-image").string(), "build"};
  argv.insert(argv.end(), {"--images", request.images.string(), "--cache", request.cache.string()});
  argv.insert(argv.end(), {"--libexec", request.libexec.string(), "--apt", request.apt.string()});
  if (!request.recipe.empty()) argv.insert(argv.end(), {"--recipe", fs::absolute(request.recipe).string()});
  for (const auto& layer : request.layers) argv.insert(argv.end(), {"--layer", layer});
  if (request.mode == BuildMode::refresh) argv.push_back("--refresh");
  const auto built = [&] {
    try {
      return relay({.argv = std::move(argv)}, build_log(request.images), progress, deadline, request.stop);
    } catch (const Error&) {
      sweep_after_the_end(request);
      throw;
    }
  };
  const auto result = built();
  const auto digest = require<std::string>(result, "digest");
  if (is_digest(digest))
    if (auto image = read_image(request.images / digest); image && image->damage.empty()) return *image;
  throw Error(ErrorCode::operation_failed, fmt::format("the image {} vanished after its build", digest.substr(0, 12)),
              "agentvm image build");
}

Image get_image(const fs::path& images, const std::string& digest_or_name) {
  std::vector<Image> found;
  std::optional<Image> damaged;
  for (auto& image : list_images(images)) {
    if (digest_or_name.empty()) break;
    if (image.digest == digest_or_name || (image.name == digest_or_name && image.damage.empty()))
      return std::move(image);
    if (image.name == digest_or_name && !damaged)
      damaged = std::move(image);
    else if (digest_or_name.size() >= shortest_prefix_digits && image.digest.starts_with(digest_or_name))
      found.push_back(std::move(image));
  }
  if (damaged) return std::move(*damaged);
  if (found.size() == 1) return std::move(found[0]);
  if (found.empty())
    throw Error(ErrorCode::not_found, fmt::format("there is no image '{}'", digest_or_name), "agentvm image list");
  throw Error(ErrorCode::not_found, fmt::format("'{}' begins the digests of {} images", digest_or_name, found.size()),
              "agentvm image list");
}

void remove_image(const fs::path& images, const Image& image) {
  const auto hidden = images / (".removing-" + random_hex(8));
  std::error_code problem;
  fs::rename(images / image.digest, hidden, problem);
  if (problem) throw_errno("cannot remove the image " + image.digest.substr(0, 12), problem.value());
  sync_dir(images);
  remove_tree(hidden);
}

std::vector<fs::path> leftovers(const fs::path& images) {
  std::vector<fs::path> result;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(images, ignored)) {
    const auto name = entry.path().filename().string();
    if (name.starts_with(".building-") || name.starts_with(".removing-")) result.push_back(entry.path());
  }
  return result;
}

FileLock take_build_turn(const fs::path& images, const Progress& progress, Deadline deadline) {
  auto lock = FileLock::try_acquire(build_lock(images));
  if (!lock) {
    report(progress, "image-wait", "waiting for another build to finish");
    lock = FileLock::acquire(build_lock(images), deadline);
  }
  lock->record_pid();
  return std::move(*lock);
}

Image publish_image(const fs::path& images, const fs::path& folder, const Image& image, const Json& more,
                    const Json& sealed) {
  auto json = image.to_json();
  json.update(more);
  json["builder"] = AGENTVM_VERSION;
  json["size_bytes"] = folder_bytes(folder);
  json["files"] = seal_files(folder, sealed);
  write_file_atomic(folder / "image.json", json.dump(2) + "\n", 0644);
  check_errno(::chmod(folder.c_str(), 0755), "cannot set the mode of " + folder.string());
  const auto target = images / image.digest;
  fs::rename(folder, target);
  sync_dir(images);
  return *read_image(target);
}

void remove_leftovers(const fs::path& images, const fs::path& libexec, Deadline deadline) {
  for (const auto& leftover : leftovers(images)) remove_foreign_tree(leftover, libexec, deadline);
}

Pruned prune_images(const fs::path& images, const std::filesystem::path& libexec, const std::set<std::string>& in_use) {
  Pruned pruned;
  std::error_code ignored;
  if (!fs::is_directory(images, ignored)) return pruned;
  const auto lock = FileLock::try_acquire(build_lock(images));
  if (!lock) throw Error(ErrorCode::wrong_state, "an image is being built", "agentvm image list");
  for (auto& image : list_images(images)) {
    if (in_use.contains(image.digest)) continue;
    pruned.freed_bytes += own_bytes(image.folder);
    remove_image(images, image);
    pruned.images.push_back(std::move(image));
  }
  remove_leftovers(images, libexec, Deadline::after(std::chrono::minutes(5)));
  return pruned;
}

}  // namespace agentvm
