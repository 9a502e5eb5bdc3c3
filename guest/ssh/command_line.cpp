#include "guest/ssh/command_line.hpp"

#include <fmt/format.h>

#include "vmm/base/error.hpp"

namespace agentvm::guest {
namespace {

bool is_plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("_-./:@%+,").find(c) != std::string_view::npos;
}

bool is_variable_name(std::string_view name) {
  if (name.empty() || (name[0] >= '0' && name[0] <= '9')) return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  });
}

bool is_user_name(std::string_view name) {
  return !name.empty() && name.size() <= 32 && name[0] != '-' && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
           c == '.';
  });
}

void refuse_nul(std::string_view text, std::string_view what) {
  if (text.find('\0') != std::string_view::npos)
    throw Error(ErrorCode::usage, fmt::format("{} holds a NUL byte", what));
}

}  // namespace

std::string shell_quote(std::string_view text) {
  if (!text.empty() && std::all_of(text.begin(), text.end(), is_plain)) return std::string(text);
  std::string result = "'";
  for (const char c : text) {
    if (c == '\'')
      result += "'\\''";
    else
      result += c;
  }
  return result + "'";
}

std::string guest_command(const ExecSpec& spec, std::string_view session_user) {
  if (spec.argv.empty() || spec.argv[0].empty())
    throw Error(ErrorCode::usage, "there is no command to run in the guest");
  refuse_nul(spec.workdir, "the working directory");
  std::string command;
  if (!spec.workdir.empty()) command += fmt::format("cd -- {} || exit 126; ", shell_quote(spec.workdir));
  // Variables travel in the command, not as env requests: sshd drops names that AcceptEnv does not list, PAM overrides
  // the others, and each request costs a round trip. env(1) also keeps exec from taking argv[0] for a shell builtin.
  command += "exec env --";
  for (const auto& [name, value] : spec.env) {
    if (!is_variable_name(name)) throw Error(ErrorCode::usage, fmt::format("'{}' is not a variable name", name));
    refuse_nul(value, name);
    command += ' ' + name + '=' + shell_quote(value);
  }
  // A program whose name holds '=' would be taken for one more variable: let the shell's exec run that one.
  if (spec.argv[0].find('=') != std::string::npos) command += " sh -c 'exec \"$@\"' sh";
  for (const auto& word : spec.argv) {
    refuse_nul(word, "an argument");
    command += ' ' + shell_quote(word);
  }
  if (!spec.user.empty() && spec.user != session_user) {
    if (!is_user_name(spec.user)) throw Error(ErrorCode::usage, fmt::format("'{}' is not a user name", spec.user));
    command = fmt::format("exec sudo -n -H -u {} -- sh -c {}", spec.user, shell_quote(command));
  }
  if (command.size() > command_limit_bytes)
    throw Error(ErrorCode::usage, fmt::format("the command is {} bytes long; a guest takes at most {}", command.size(),
                                              command_limit_bytes));
  return command;
}

}  // namespace agentvm::guest
