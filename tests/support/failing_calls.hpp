#pragma once
// System calls that change files, counted and made to fail at will, on every thread: the test program's definitions
// stand in front of the C library's, so the product's own code runs unchanged.

#include <string>
#include <vector>

namespace agentvm::test {

/// From now on the `nth` (from 1) file-changing call fails with `error_number`; all later ones too when `and_after`. 0
/// only counts.
void fail_call(int nth, int error_number, bool and_after = false);
/// Ends the failing; the names of the calls made since `fail_call`.
std::vector<std::string> stop_failing();

}  // namespace agentvm::test
