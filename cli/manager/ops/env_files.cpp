#include "cli/manager/ops/env_files.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/error.hpp"
#include "vmm/base/process.hpp"
#include "vmm/config.hpp"

namespace agentvm::manager {
namespace {

constexpr std::size_t limit_bytes = 1u << 20;
constexpr milliseconds command_limit{30'000};
constexpr std::size_t value_limit_bytes = 64u << 10;

std::string read_beneath(const fs::path& project, const std::string& file) {
  const auto folder = open_file(project, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  open_how how{};
  how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  const UniqueFd fd(static_cast<int>(::syscall(SYS_openat2, folder.get(), file.c_str(), &how, sizeof how)));
  if (!fd && errno == ELOOP) throw Error(ErrorCode::usage, file + " is, or is behind, a symbolic link");
  if (!fd && errno == EXDEV) throw Error(ErrorCode::usage, file + " is outside the project");
  check_errno(fd.get(), file);
  struct stat status {};
  check_errno(::fstat(fd.get(), &status), file);
  if (!S_ISREG(status.st_mode)) throw Error(ErrorCode::usage, file + " is no regular file");
  std::string text(limit_bytes + 1, '\0');
  text.resize(read_some(fd.get(), text.data(), text.size(), Deadline::never()));
  if (text.size() > limit_bytes) throw Error(ErrorCode::usage, file + " is larger than 1 MiB");
  return text;
}

}  // namespace

std::map<std::string, std::string> read_env_files(const fs::path& project, const std::vector<std::string>& files,
                                                  const std::function<void(const std::string&)>& warn) {
  std::map<std::string, std::string> variables;
  for (const auto& file : files) try {
      auto read = parse_dotenv(read_beneath(project, file), file);
      read.merge(variables);  // what is there already stays: the later file wins
      variables = std::move(read);
    } catch (const Error& error) {
      warn(fmt::format("env.files: {}", error.what()));
    }
  return variables;
}

std::map<std::string, std::string> run_env_commands(const std::vector<std::string>& commands, const fs::path& home,
                                                    const std::function<void(const std::string&)>& warn,
                                                    std::stop_token stop) {
  std::map<std::string, std::string> variables;
  for (const auto& entry : commands) {
    const auto equals = entry.find('=');
    const auto name = entry.substr(0, equals);
    try {
      ProcessSpec spec{.argv = {"/bin/sh", "-c", entry.substr(equals + 1)}, .cwd = home.string()};
      if (spec.cwd.empty()) spec.cwd.assign(1, '/');
      const auto result = run(spec, Deadline::after(command_limit));
      if (!result.status.ok())
        throw Error(ErrorCode::operation_failed, "its command ended with " + result.status.describe());
      auto value = result.out;
      value.resize(value.find_last_not_of("\r\n") + 1);
      if (value.empty()) throw Error(ErrorCode::operation_failed, "its command printed nothing");
      if (value.size() > value_limit_bytes || value.find('\0') != value.npos)
        throw Error(ErrorCode::operation_failed, "its command printed more than 64 KiB, or a NUL");
      variables.insert_or_assign(name, std::move(value));
    } catch (const Error& error) {
      warn(fmt::format("env.commands: {} is not given: {}", name, error.message()));
    }
    if (stop.stop_requested()) break;
  }
  return variables;
}

}  // namespace agentvm::manager
