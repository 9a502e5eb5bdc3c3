#include "guest/image/import.hpp"

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/image/foreign_disk.hpp"
#include "guest/image/guestfs_child.hpp"
#include "guest/image/recipe.hpp"
#include "guest/image/recipe_reader.hpp"
#include "guest/image/store.hpp"
#include "guest/image/tree.hpp"
#include "vmm/base/digest.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/file_lock.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/text.hpp"

namespace agentvm {
namespace {

constexpr std::uint64_t space_needed_bytes = std::uint64_t{3} << 30;
/// Less than this is left to the host: an import that takes it is ended.
constexpr std::uint64_t reserve_bytes = std::uint64_t{1} << 30;
constexpr milliseconds room_interval{500};
constexpr std::size_t text_limit_bytes = 300, warnings_limit = 32;

void check_name(const ImportRequest& request) {
  if (!package_name(request.name))
    throw Error(ErrorCode::usage, fmt::format("'{}' is no name of an image (lower-case letters, digits, + - .)",
                                              clean_guest_text(request.name)));
  if (request.name == default_recipe().name)
    throw Error(ErrorCode::usage, fmt::format("'{}' is the name of the image that is built here", request.name),
                "agentvm image import " + shell_word(request.file.string()) + " --name OTHER");
  for (const auto& image : list_images(request.images))
    if (image.name == request.name)
      throw Error(ErrorCode::wrong_state, fmt::format("there is an image '{}'", request.name),
                  "agentvm image remove " + request.name);
}

std::vector<std::string> clean_list(const Json& result, const char* key) {
  std::vector<std::string> texts;
  for (const auto& text : value_or<std::vector<std::string>>(result, key, {}))
    if (texts.size() < warnings_limit) texts.push_back(clean_guest_text(text, Newlines::escape, text_limit_bytes));
  return texts;
}

/// Ends what `stop` ends when the host's disk runs full: a disk image says nothing of how much comes out of it.
class RoomWatch {
 public:
  RoomWatch(const fs::path& folder, const std::stop_token& called_off)
      : forward_(called_off, [this] { stop_.request_stop(); }),
        thread_([this, folder](const std::stop_token& end) { watch(folder, end); }) {}
  std::stop_token stop() const { return stop_.get_token(); }
  bool is_full() const { return full_; }

 private:
  void watch(const fs::path& folder, const std::stop_token& end) {
    std::mutex mutex;
    std::condition_variable_any changed;
    for (std::unique_lock lock(mutex); !changed.wait_for(lock, end, room_interval, [] { return false; });) {
      if (end.stop_requested()) return;
      std::error_code ignored;
      if (fs::space(folder, ignored).available >= reserve_bytes || ignored) continue;
      full_ = true;
      stop_.request_stop();
      return;
    }
  }

  std::stop_source stop_;
  std::atomic<bool> full_ = false;
  std::stop_callback<std::function<void()>> forward_;
  std::jthread thread_;  // last: it uses all of the above
};

/// The file that the walled process wrote to, and no other that stands in its place.
void settle_disk(const fs::path& root, const UniqueFd& made) {
  struct stat now {
  }, then{};
  check_errno(::lstat(root.c_str(), &now), root.c_str());
  check_errno(::fstat(made.get(), &then), root.c_str());
  if (!S_ISREG(now.st_mode) || now.st_ino != then.st_ino || now.st_dev != then.st_dev || now.st_nlink != 1)
    throw Error(ErrorCode::operation_failed, root.string() + " is another file than the one that was made");
  check_errno(::fchmod(made.get(), 0644), "cannot set the mode of the disk");
  check_errno(::fsync(made.get()), "cannot store the disk");
}

/// In `folder`, which is nobody's yet: the root disk with the system.
Json copy_system(const ImportRequest& request, const fs::path& folder, const Progress& progress, Deadline deadline) {
  const auto empty = folder / "empty", scratch = folder / "scratch", root = folder / "root.raw";
  for (const auto& made : {empty, scratch}) ensure_private_dir(made);
  make_disk(empty, root, default_recipe().disk);
  const auto disk = open_file(root, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
  const RoomWatch room(request.images, request.stop);
  const ApplianceSite site{.image = request.base,
                           .libexec = request.libexec,
                           .cache = request.appliances,
                           .scratch = scratch,
                           .sockets = request.sockets,
                           .accelerator = request.accelerator};
  GuestfsChild child(
      site, "import",
      {fs::absolute(request.file).string(), root.string(), request.base.modules_root.string(), scratch.string(),
       request.accelerator == Accelerator::kvm ? "kvm" : "tcg", request.base.kernel_version},
      {}, progress, deadline);
  Json result;
  try {
    result = child.finish("importing the image", "", progress, deadline, room.stop());
  } catch (const Error&) {
    if (!room.is_full()) throw;
    throw Error(ErrorCode::host_lacks,
                fmt::format("the system on it does not fit: less than {} MiB are left in {}", reserve_bytes >> 20,
                            request.images.string()),
                "agentvm image prune");
  }
  settle_disk(root, disk);
  for (const auto& made : {empty, scratch}) remove_tree(made);
  return result;
}

Image store(const ImportRequest& request, const fs::path& folder, const std::string& system) {
  for (const auto* file : {"kernel", "initrd", "modules.cpio"})
    fs::create_hard_link(request.base.folder / file, folder / file);
  fs::create_hard_link(request.base.modules_root, folder / base_root_file);
  Image image;
  image.created = system_clock().unix_seconds();
  image.digest = image.request = sha256_hex(random_hex(32));  // nothing else is ever the same
  image.name = request.name;
  image.kernel_version = request.base.kernel_version;
  image.imported = system.empty() ? "Linux" : system;
  auto known = request.base.sealed;
  known.erase("root.raw");
  return publish_image(request.images, folder, image, Json::object(), known);
}

}  // namespace

Imported import_image(const ImportRequest& request, const Progress& progress, Deadline deadline) {
  check_name(request);
  check_foreign_disk(request.file);  // told at once; the walled process looks for itself
  if (const auto free = free_bytes(request.images); free < space_needed_bytes)
    throw Error(
        ErrorCode::host_lacks,
        fmt::format("importing an image needs 3 GiB in {}, {} MiB are free", request.images.string(), free >> 20),
        "agentvm image prune");
  const auto lock = take_build_turn(request.images, progress, deadline);
  check_name(request);  // another import may have been of this name
  remove_leftovers(request.images, request.libexec, deadline);
  const auto folder = request.images / (".building-" + random_hex(8));
  ensure_private_dir(folder);
  try {
    const auto result = copy_system(request, folder, progress, deadline);
    report(progress, "image-store", "storing the image", 96);
    const auto system =
        clean_guest_text(value_or<std::string>(result, "system", ""), Newlines::escape, text_limit_bytes);
    Imported imported{store(request, folder, system), clean_list(result, "warnings")};
    report(progress, "image-store", fmt::format("image {} is ready", request.name), 100);
    return imported;
  } catch (...) {
    try {
      remove_tree(folder);
    } catch (const Error&) {
      // The first failure is the one to tell of; the next build sweeps.
    }
    throw;
  }
}

}  // namespace agentvm
