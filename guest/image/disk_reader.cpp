#include "guest/image/disk_reader.hpp"

#include "guest/image/guestfs_child.hpp"
#include "guest/image/store.hpp"
#include "vmm/base/files.hpp"

namespace agentvm {
namespace {

constexpr int data_fd = 3;

std::string word_for(DiskRead::What what) {
  return what == DiskRead::What::folder ? "folder" : what == DiskRead::What::any ? "any" : "list";
}

}  // namespace

DiskReader::DiskReader(const DiskRead& request, const Progress& progress, Deadline deadline) {
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
  child_->finish("reading the disk", "rescue", progress, deadline);
}

}  // namespace agentvm
