#pragma once
// One line to people: on the machine's console while init runs, in the kernel's log once systemd owns the console.

#include <string_view>

#include <fmt/format.h>

namespace agentvm::guest::agent {

/// Writes "agentvm-guest: text". Never throws, never blocks for long.
void say(std::string_view text);
/// From now on `say` goes to /dev/kmsg: systemd hangs up and configures the console.
void say_to_kernel_log();
/// Opens /dev/console as descriptors 0 to 2 when init has none (an initramfs without device nodes).
void open_console();

template <class... Args>
void say(fmt::format_string<Args...> format, Args&&... args) {
  say(std::string_view(fmt::format(format, std::forward<Args>(args)...)));
}

}  // namespace agentvm::guest::agent
