#pragma once
// Whether virtual machines run in a guest, as its agent tried.

#include "guest/control/control.hpp"

namespace agentvm::guest {

/// Checked and cleaned: safe to show. It is still what the guest says of itself.
struct NestedVerdict {
  bool ran = false;
  std::string reason;                 ///< why it did not
  double ratio = 0;                   ///< of the speed in the machine inside to that in the guest; 1 is as fast
  std::int64_t exit_nanoseconds = 0;  ///< one exit of the machine inside, and the way back into it
};

/// Runs a tiny virtual machine in the guest, as its user. What does not end is killed. Throws as `Control::exec`, and
/// `operation_failed` for an answer that makes no sense.
NestedVerdict probe_nested(Control& control, Deadline deadline);
/// Pure.
NestedVerdict parse_nested_probe(const ControlResult& result);
/// Pure. Throws `operation_failed` for what the protocol does not allow.
GuestNested parse_guest_nested(const Json& body);

}  // namespace agentvm::guest
