#pragma once
// The other end of a child that fetches loose objects: answers its requests from a `LooseSource`, in packets. The child
// has read hostile bytes and may ask for anything: what it may have is what the guest would have shown it anyway.
//
//   relay: references and HEAD as upload-pack advertises them, flush
//   child: "want ID" ..., flush         (none: the end)
//   relay: for each "ID LENGTH", then packets of LENGTH bytes in all; flush

#include <thread>

#include "sync/loose_source.hpp"
#include "vmm/base/fd.hpp"

namespace agentvm::sync {

class LooseRelay {
 public:
  /// `source` outlives it.
  LooseRelay(const LooseSource& source, const LooseSource::References& references, Deadline deadline);
  /// Ends the conversation; waits for an answer that is on its way from the guest.
  ~LooseRelay();
  LooseRelay(const LooseRelay&) = delete;
  LooseRelay& operator=(const LooseRelay&) = delete;

  /// The child's standard input and output. Once only.
  UniqueFd take_io() { return std::move(child_end_); }

 private:
  void serve(const std::stop_token& stop, const std::string& advertisement);

  const LooseSource& source_;
  Deadline deadline_;
  UniqueFd own_end_, child_end_;
  std::jthread thread_;
};

}  // namespace agentvm::sync
