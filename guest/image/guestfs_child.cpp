#include "guest/image/guestfs_child.hpp"

#include <csignal>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest/image/follow.hpp"
#include "guest/image/store.hpp"
#include "guest/image/wire.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/text.hpp"

namespace agentvm {
namespace {

constexpr std::size_t report_limit_bytes = 600;
constexpr const char* program = "agentvm-guestfs";
constexpr const char* lock_name = ".lock";
constexpr const char* appliance_name = "appliance";  // as rescue/main.cpp makes it

fs::path log_of(const ApplianceSite& site) {
  return site.scratch / "appliance.log";
}

std::map<std::string, std::string> environment(const ApplianceSite& site) {
  const char* path = std::getenv("PATH");
  return {{"PATH", path ? path : "/usr/bin:/bin"},
          {"HOME", "/nonexistent"},
          {"LC_ALL", "C"},
          {"TMPDIR", site.scratch.string()},
          {"XDG_RUNTIME_DIR", site.sockets.string()}};
}

bool is_version(const std::string& text) {
  return !text.empty() && text != "." && text != ".." && std::all_of(text.begin(), text.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || std::string_view("._+~-").find(c) != std::string_view::npos;
  });
}

/// The kernel's modules, from the base that no guest ever wrote. Kernels of the host are not always there (containers)
/// or may not be read (Ubuntu's are root's alone).
fs::path extract_modules(const ApplianceSite& site, Deadline deadline) {
  const auto& version = site.image.kernel_version;
  if (!is_version(version)) throw Error(ErrorCode::operation_failed, "the image names no version of its kernel");
  const auto folder = site.scratch / "modules";
  ensure_private_dir(folder);
  // For users it complains that files cannot be given to root; whether they came is seen by the table of them.
  run({.argv = {"debugfs", "-R", fmt::format("rdump /lib/modules/{} .", version), site.image.modules_root.string()},
       .cwd = folder.string(),
       .die_with_parent = true},
      deadline);
  if (!fs::is_regular_file(folder / version / "modules.dep"))
    throw Error(ErrorCode::operation_failed,
                fmt::format("the image {} holds no modules of its kernel", site.image.digest.substr(0, 12)));
  return folder / version;
}

/// The appliance for this image's kernel; those of others are gone afterwards.
fs::path prepare_appliance(const ApplianceSite& site, const Progress& progress, Deadline deadline) {
  const auto root = root_digest_of(site.image);
  const auto key = (root.empty() ? site.image.digest : root).substr(0, 16);
  const auto folder = site.cache / key;
  for (const auto& entry : fs::directory_iterator(site.cache))
    if (entry.is_directory() && entry.path() != folder) remove_tree(entry.path());
  ensure_private_dir(folder);
  for (const auto& entry : fs::directory_iterator(folder))  // of builds that were interrupted
    if (entry.path().filename() != appliance_name) remove_tree(entry.path());
  report(progress, "rescue",
         fs::exists(folder / appliance_name) ? "checking the rescue appliance" : "building the rescue appliance");
  auto env = environment(site);
  env["SUPERMIN_KERNEL"] = site.image.kernel.string();
  env["SUPERMIN_KERNEL_VERSION"] = site.image.kernel_version;
  const auto modules = extract_modules(site, deadline);
  env["SUPERMIN_MODULES"] = modules.string();
  const auto result =
      relay({.argv = {(site.libexec / program).string(), "prepare", folder.string()}, .env = env, .cwd = "/"},
            log_of(site), progress, deadline, {}, "the build of the rescue appliance");
  remove_tree(modules.parent_path());
  return require<std::string>(result, "appliance");
}

FileLock take_turn(const fs::path& cache, const Progress& progress, Deadline deadline) {
  ensure_private_dir(cache);
  if (auto lock = FileLock::try_acquire(cache / lock_name)) return std::move(*lock);
  report(progress, "rescue", "waiting for another disk to be read");
  return FileLock::acquire(cache / lock_name, deadline);
}

std::string cleaned(const Json& line, const char* key) {
  return clean_guest_text(value_or<std::string>(line, key, ""), Newlines::escape, report_limit_bytes);
}

}  // namespace

std::uint64_t prune_appliances(const fs::path& cache) {
  if (!fs::is_directory(cache)) return 0;
  const auto lock = FileLock::try_acquire(cache / lock_name);
  if (!lock) return 0;
  std::uint64_t freed = 0;
  for (const auto& entry : fs::directory_iterator(cache)) {
    if (!entry.is_directory()) continue;
    if (fs::is_directory(entry.path() / appliance_name)) freed += folder_bytes(entry.path() / appliance_name);
    remove_tree(entry.path());
  }
  return freed;
}

GuestfsChild::GuestfsChild(const ApplianceSite& site, const std::string& verb, const std::vector<std::string>& words,
                           const std::map<int, int>& fds, const Progress& progress, Deadline deadline)
    : turn_(take_turn(site.cache, progress, deadline)), sockets_(site.sockets) {
  const auto appliance = prepare_appliance(site, progress, deadline);
  remove_tree(sockets_);
  ensure_private_dir(sockets_);
  auto said = make_pipe();
  const auto log = open_file(log_of(site), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  ProcessSpec spec{.argv = {(site.libexec / program).string(), verb, appliance.string()},
                   .env = environment(site),
                   .cwd = "/",
                   .fds = {{1, said.second.get()}, {2, log.get()}},
                   .new_session = true,  // a process group of its own, to be killed as one
                   .die_with_parent = true};
  spec.argv.insert(spec.argv.end(), words.begin(), words.end());
  spec.fds.insert(fds.begin(), fds.end());
  child_ = Process::spawn(spec);
  said_ = std::move(said.first);
}

GuestfsChild::~GuestfsChild() {
  try {
    kill();
    remove_tree(sockets_);
  } catch (const Error& error) {
    log::warn("rescue", "{}", error.what());  // the next one removes it
  }
}

/// Child, appliance and whoever watches it: they are one group, whose name is taken for as long as the child is not
/// reaped.
void GuestfsChild::kill() {
  if (!child_) return;
  ::kill(-child_->pid(), SIGKILL);
  child_.reset();
}

Json GuestfsChild::finish(const std::string& what, const std::string& step, const Progress& progress, Deadline deadline,
                          const std::stop_token& stop) {
  // By descriptor: whoever asks to stop is on another thread, and the pid may be another process's by then.
  const std::stop_callback on_stop(stop, [pidfd = duplicate(child_->pidfd())] {
    ::syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0);
  });
  std::optional<Json> result;
  std::optional<Error> problem;
  ExitStatus status;
  try {
    status = follow_lines(*child_, said_.get(), deadline, what, [&](std::string_view text) {
      const auto line = parse_json(text, "a line of agentvm-guestfs");
      if (line.contains("step"))
        return report(progress, step.empty() ? cleaned(line, "step") : step, cleaned(line, "text"),
                      value_or<int>(line, "percent", -1));
      if (line.contains("result")) result = line["result"];
      if (line.contains("error"))
        problem = Error(error_code_from(value_or<std::string>(line["error"], "code", "")),
                        cleaned(line["error"], "message"), cleaned(line["error"], "hint"));
      ::kill(-child_->pid(), SIGKILL);  // that was its last word; what it started ends with it
    });
  } catch (...) {
    kill();
    throw;
  }
  child_.reset();
  if (problem) throw Error(*problem);
  if (!result && stop.stop_requested()) throw Error(ErrorCode::cancelled, what + " was cancelled");
  if (!result) throw Error(ErrorCode::operation_failed, what + " ended with " + status.describe());
  return *result;
}

}  // namespace agentvm
