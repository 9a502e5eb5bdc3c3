#pragma once
// The sending side of git's protocol v0 over two descriptors. Everything read is hostile.

#include <optional>
#include <string>
#include <string_view>

#include "sync/verdict.hpp"

namespace agentvm::git {

/// What receive-pack says at its end, line by line. Pure.
class PushReport {
 public:
  explicit PushReport(std::string ref) : ref_(std::move(ref)) {}
  /// Throws `operation_failed` for what is no line of a report, and for endless ones.
  void add(std::string_view line);
  /// Done only when both the pack and the reference were taken; else in the guest's words, cleaned.
  sync::PushAnswer answer() const;

 private:
  std::string ref_, refusal_;
  bool unpacked_ = false, taken_ = false;
  int lines_ = 0;
};

/// Sends the pack on descriptor `pack` and one reference. Refused without sending anything where the guest's branch is
/// not at `request.old_tip`.
sync::PushAnswer push(const sync::PushRequest& request, int in, int out, int pack);

}  // namespace agentvm::git
