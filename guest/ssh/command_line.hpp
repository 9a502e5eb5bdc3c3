#pragma once
// An ExecSpec as the one string that ssh's exec request carries and the guest user's shell reads. Pure.

#include <string>
#include <string_view>

#include "guest/streams.hpp"

namespace agentvm::guest {

/// Linux takes no single argument longer than this (MAX_ARG_STRLEN), and sshd hands the whole command to the shell as
/// one.
inline constexpr std::size_t command_limit_bytes = 128 * 1024 - 1;

/// `text` so that any POSIX shell reads it as one word.
std::string shell_quote(std::string_view text);
/// The command: exec, so that signals and the exit status are the program's own; 126 when the working directory cannot
/// be entered. `session_user` is who the connection is logged in as. Throws `usage`: empty argv, NUL bytes, a bad
/// variable or user name, too long.
std::string guest_command(const ExecSpec& spec, std::string_view session_user);

}  // namespace agentvm::guest
