#pragma once
// Variables for the agent program that are the host's: of files in the project's folder (.env), and of commands that a
// password manager answers.

#include <functional>

#include "vmm/base/files.hpp"

namespace agentvm::manager {

/// What the files say, a later one over an earlier. Names to `warn` which cannot be read: it is not there, no regular
/// file, larger than 1 MiB, behind a symbolic link (which a commit of the guest can be) or outside the project, or says
/// something else than NAME=VALUE. Nothing of such a file counts. Never throws for that.
std::map<std::string, std::string> read_env_files(const fs::path& project, const std::vector<std::string>& files,
                                                  const std::function<void(const std::string&)>& warn);

/// What each command ("NAME=COMMAND") prints, less the newlines at its end. Run by sh one after the other, in the
/// user's home folder, half a minute each. Names to `warn` the variable of one that fails, prints nothing or more than
/// 64 KiB; never its output. Never throws for that.
std::map<std::string, std::string> run_env_commands(const std::vector<std::string>& commands, const fs::path& home,
                                                    const std::function<void(const std::string&)>& warn,
                                                    std::stop_token stop);

}  // namespace agentvm::manager
