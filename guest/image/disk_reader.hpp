#pragma once
// Reads from the disk of a guest that is gone or stopped: through libguestfs, in a child behind walls (rescue/).
//
// The disk is only ever read. The appliance that reads it is built from the host's packages and the image's own kernel,
// so that none has to be installed, and kept; a fresh one takes about 20 seconds on two cores, a start 10 (emulated).

#include <filesystem>
#include <memory>

#include "guest/image/images.hpp"
#include "vmm/base/fd.hpp"
#include "vmm/hypervisor.hpp"

namespace agentvm {

class GuestfsChild;

struct DiskRead {
  std::filesystem::path disk;  ///< qcow2 over `image`'s root; no machine has it
  Image image;
  std::filesystem::path libexec;
  std::filesystem::path cache;    ///< for the appliance, 400 MB; made. One read at a time has it
  std::filesystem::path scratch;  ///< exists, private, the caller's to remove
  std::filesystem::path sockets;  ///< a short path (108 bytes with what comes below); made, and removed
  Accelerator accelerator = Accelerator::tcg;
  enum class What {
    folder,  ///< a tar archive of the folder, which must be no link
    any,     ///< links are followed; the first byte says what comes: see rescue/main.cpp
    list,    ///< the entries of a folder, or the one thing that is there: `parse_listing`
  } what = What::folder;
  std::string path = "/workspace";  ///< absolute, without '\0'
};

/// Not thread-safe. Destroying it kills the child and its appliance.
class DiskReader {
 public:
  /// Prepares the appliance and starts the child. Blocking. Throws `host_lacks` (programs, packages), `timed_out`,
  /// `operation_failed`.
  DiskReader(const DiskRead& request, const Progress& progress, Deadline deadline);
  ~DiskReader();
  DiskReader(const DiskReader&) = delete;
  DiskReader& operator=(const DiskReader&) = delete;

  /// What was asked for: hostile bytes. Its reader must not wait for `finish`, nor the other way round.
  UniqueFd take_data() { return std::move(data_); }
  /// Until all is sent. Throws why it is not, in clean text: no such folder (`not_found`), a damaged file system or
  /// disk (`operation_failed`), `timed_out`. Nothing of the child is left in either case. Where the image that the disk
  /// stands on turns out to be damaged, which takes seconds to see, the error says so and it is noted.
  void finish(const Progress& progress, Deadline deadline);

 private:
  Image image_;
  std::unique_ptr<GuestfsChild> child_;
  UniqueFd data_;
};

}  // namespace agentvm
