#pragma once
// What a guest's kernel says of itself on its serial console.

#include <string_view>

namespace agentvm::guest {

/// Whether the kernel reported more than once that a CPU runs nothing any more ("soft lockup"): it does so after twice
/// `watchdog_thresh`, which is 10 s, and then every 20 s or so (kernel/watchdog.c), so that a CPU that was merely slow
/// is not meant. Any bytes are taken; a guest may of course say so of itself.
bool cpus_hang(std::string_view console);

}  // namespace agentvm::guest
