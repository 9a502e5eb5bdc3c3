#include "guest/image/build.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/image/bootstrap.hpp"
#include "guest/image/initramfs.hpp"
#include "guest/image/namespaces.hpp"
#include "guest/image/request.hpp"
#include "guest/image/store.hpp"
#include "guest/image/tree.hpp"
#include "guest/image/wire.hpp"
#include "vmm/base/digest.hpp"
#include "vmm/base/file_lock.hpp"
#include "vmm/base/files.hpp"

namespace agentvm {
namespace {

/// A tree of packages, the disk made from it and the downloads, with some air.
constexpr std::uint64_t space_needed_bytes = std::uint64_t{3} << 30;
constexpr std::uint64_t cache_limit_bytes = std::uint64_t{2} << 30;

void check_space(const fs::path& folder) {
  const auto free = free_bytes(folder);
  if (free >= space_needed_bytes) return;
  throw Error(ErrorCode::host_lacks,
              fmt::format("building an image needs 3 GiB in {}, {} MiB are free", folder.string(), free >> 20),
              "agentvm image prune");
}

/// Old versions of packages pile up; a cache that grew too large starts afresh.
void trim_cache(const fs::path& packages) {
  std::uint64_t total = 0;
  for (const auto& entry : fs::directory_iterator(packages)) total += entry.file_size();
  if (total > cache_limit_bytes)
    for (const auto& entry : fs::directory_iterator(packages)) remove_tree(entry.path());
}

/// Takes kernel, modules and disk from an image that differs in the guest program alone: what was sealed of them. They
/// are never written, so a link is a copy.
std::optional<Json> borrow_root(const ImageRequest& request, const ResolvedRequest& resolved, const fs::path& folder) {
  for (const auto& image : list_images(request.images)) {
    if (!image.damage.empty() || root_digest_of(image) != resolved.root_digest) continue;
    std::error_code problem;
    for (const auto* file : {"kernel", "modules.cpio", "root.raw"})
      if (!problem) fs::create_hard_link(image.folder / file, folder / file, problem);
    if (!problem) {
      write_file_atomic(folder / "kernel.version", image.kernel_version, 0644);
      auto sealed = image.sealed;
      sealed.erase("initrd");
      return sealed;
    }
    for (const auto* file : {"kernel", "modules.cpio", "root.raw"}) fs::remove(folder / file, problem);
  }
  return std::nullopt;
}

void build_root(const ImageRequest& request, const ResolvedRequest& resolved, const fs::path& folder,
                const FileLock& lock, const Progress& progress, Deadline deadline) {
  check_space(request.images);
  trim_cache(request.cache);
  std::vector<Json> sources;
  for (const auto& source : resolved.sources)
    sources.push_back({{"uri", source.uri},
                       {"suite", source.suite},
                       {"components", source.components},
                       {"signed_by", source.signed_by}});
  write_file_atomic(folder / "request.json", dump_json(Json{{"recipe", resolved.recipe.canonical()},
                                                            {"sources", sources},
                                                            {"packages", request.cache.string()},
                                                            {"log", build_log(request.images).string()}}));
  const auto program = (request.libexec / "agentvm-image").string();
  // The children hold the lock, too: when this process is killed, the next build waits until they are gone.
  relay({.argv = in_namespaces({program, "assemble", folder.string()}), .fds = {{3, lock.fd()}}},
        build_log(request.images), progress, deadline);
}

void flush(const fs::path& file) {
  const auto fd = open_file(file, O_RDONLY | O_CLOEXEC);
  check_errno(::fsync(fd.get()), "cannot store " + file.string());
}

Image store_image(const ImageRequest& request, const ResolvedRequest& resolved, const fs::path& folder,
                  const Json& borrowed) {
  write_file_atomic(folder / "initrd",
                    read_file(folder / "modules.cpio", 64u << 20) + init_archive(resolved.guest_program), 0644);
  Image image;
  image.created = system_clock().unix_seconds();
  image.request = resolved.digest;
  // No image takes the place of another one, on which disks may stand: of the one that is refreshed, or of one that is
  // damaged.
  const bool taken = request.mode == BuildMode::refresh || fs::exists(request.images / resolved.digest);
  image.digest = taken ? sha256_hex(resolved.digest + random_hex(16)) : resolved.digest;
  image.name = resolved.recipe.name;
  image.suite = resolved.recipe.suite;
  image.kernel_version = read_file(folder / "kernel.version");
  fs::remove(folder / "kernel.version");
  fs::remove(folder / "request.json");
  for (const auto* file : {"kernel", "modules.cpio", "root.raw"}) {
    check_errno(::chmod((folder / file).c_str(), 0644), "cannot set the mode of " + (folder / file).string());
    flush(folder / file);
  }
  return publish_image(request.images, folder, image, {{"root", resolved.root_digest}}, borrowed);
}

}  // namespace

Image build_image(const ImageRequest& request, const Progress& progress, Deadline deadline) {
  ensure_private_dir(request.images);
  ensure_private_dir(request.cache);
  const auto resolved = resolve_request(request);
  const auto known = [&] {
    return request.mode == BuildMode::reuse ? find_by_request(request.images, resolved.digest) : std::nullopt;
  };
  if (auto image = known()) return *image;
  const auto lock = take_build_turn(request.images, progress, deadline);
  if (auto image = known()) return *image;
  remove_leftovers(request.images, request.libexec, deadline);
  write_file_atomic(build_log(request.images), "");
  const auto folder = request.images / (".building-" + random_hex(8));
  check_errno(::mkdir(folder.c_str(), 0700), "cannot create " + folder.string());
  try {
    const auto borrowed = request.mode == BuildMode::refresh ? std::nullopt : borrow_root(request, resolved, folder);
    if (!borrowed) build_root(request, resolved, folder, lock, progress, deadline);
    report(progress, "image-store", "storing the image", 96);
    auto image = store_image(request, resolved, folder, borrowed.value_or(Json::object()));
    report(progress, "image-store", fmt::format("image {} is ready", image.digest.substr(0, 12)), 100);
    return image;
  } catch (...) {
    try {
      remove_foreign_tree(folder, request.libexec, Deadline::after(std::chrono::minutes(2)));
    } catch (const Error&) {
      // The first failure is the one to tell of; the next build sweeps.
    }
    throw;
  }
}

void assemble_image(const fs::path& folder, const Progress& progress, Deadline deadline) {
  ::umask(022);
  const auto request = parse_json(read_file(folder / "request.json"), "request.json");
  const auto recipe = parse_recipe(require<std::string>(request, "recipe"), "request.json");
  std::vector<PackageSource> sources;
  for (const auto& source : require<std::vector<Json>>(request, "sources"))
    sources.push_back({require<std::string>(source, "uri"), require<std::string>(source, "suite"),
                       require<std::vector<std::string>>(source, "components"),
                       require<std::string>(source, "signed_by")});
  const auto tree = folder / "tree", scratch = folder / "scratch", kernel = folder / "kernel.package";
  for (const auto& made : {scratch, kernel}) check_errno(::mkdir(made.c_str(), 0755), "cannot create " + made.string());
  install_packages(recipe,
                   {.tree = tree,
                    .kernel_folder = kernel,
                    .packages = require<std::string>(request, "packages"),
                    .scratch = scratch,
                    .log = require<std::string>(request, "log"),
                    .sources = render_sources(sources)},
                   progress, deadline);
  report(progress, "image-settings", "kernel and settings", 82);
  const auto package = fs::directory_iterator(kernel);
  if (package == fs::directory_iterator())
    throw Error(ErrorCode::operation_failed, fmt::format("the package {} was not fetched", recipe.kernel));
  const auto version = unpack_kernel(tree, package->path(), folder / "kernel");
  write_file_atomic(folder / "kernel.version", version);
  settle_tree(tree, recipe, sources);
  write_file_atomic(folder / "modules.cpio", modules_archive(tree), 0644);
  report(progress, "image-disk", "writing the disk", 86);
  make_disk(tree, folder / "root.raw", recipe.disk);
  report(progress, "image-store", "removing the build's files", 94);
  for (const auto& made : {tree, scratch, kernel}) remove_tree(made);
}

void remove_foreign_tree(const fs::path& folder, const fs::path& libexec, Deadline deadline) {
  try {
    remove_tree(folder);
    return;
  } catch (const Error&) {
    if (::geteuid() == 0) throw;
  }
  const auto program = (libexec / "agentvm-image").string();
  run_checked({.argv = in_namespaces({program, "remove-tree", folder.string()})}, deadline);
}

}  // namespace agentvm
