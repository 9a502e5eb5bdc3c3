#include "guest/image/disk_reader.hpp"

#include <fmt/format.h>

#include "guest/image/guestfs_child.hpp"
#include "guest/image/store.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"

namespace agentvm {
namespace {

constexpr int data_fd = 3;
constexpr milliseconds verify_limit{60'000};  // a gigabyte or two, from a slow disk

std::string word_for(DiskRead::What what) {
  return what == DiskRead::What::folder ? "folder" : what == DiskRead::What::any ? "any" : "list";
}

/// A read that failed may have met what is wrong with the image, not with the disk: `error`, or what explains it.
Error explained(const Image& image, const Error& error) {
  if (error.code() != ErrorCode::operation_failed) return error;
  try {
    const auto damage = find_damage(image, Deadline::after(verify_limit));
    if (damage.empty()) return error;
    note_damage(image, damage);
    const auto name = image.digest.substr(0, 12);
    return {ErrorCode::operation_failed,
            fmt::format("the image {} that the disk stands on is damaged: {} ({})", name, damage, error.message()),
            fmt::format("agentvm image inspect {} --verify", name)};
  } catch (const Error& unread) {
    log::warn("image", "{}: whether it is damaged is not known: {}", image.digest, unread.what());
    return error;
  }
}

}  // namespace

DiskReader::DiskReader(const DiskRead& request, const Progress& progress, Deadline deadline) : image_(request.image) {
  auto data = make_pipe();
  const std::vector<std::string> words{request.disk.string(), request.scratch.string(),
                                       request.accelerator == Accelerator::kvm ? "kvm" : "tcg", word_for(request.what),
                                       request.path};
  child_ = std::make_unique<GuestfsChild>(ApplianceSite{.image = request.image,
                                                        .libexec = request.libexec,
                                                        .cache = request.cache,
                                                        .scratch = request.scratch,
                                                        .sockets = request.sockets,
                                                        .accelerator = request.accelerator},
                                          "read", words, std::map<int, int>{{data_fd, data.second.get()}}, progress,
                                          deadline);
  data_ = std::move(data.first);
}

DiskReader::~DiskReader() = default;

void DiskReader::finish(const Progress& progress, Deadline deadline) {
  try {
    child_->finish("reading the disk", "rescue", progress, deadline);
  } catch (const Error& error) {
    throw explained(image_, error);
  }
}

}  // namespace agentvm
