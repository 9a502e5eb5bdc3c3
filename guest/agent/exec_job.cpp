#include "guest/agent/exec_job.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>

#include <fcntl.h>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/agent/accounts.hpp"

namespace agentvm::guest::agent {
namespace {

constexpr milliseconds pipe_grace{500};  // a daemon that a command leaves behind may hold the pipes for ever
constexpr std::size_t read_bytes = 64u << 10;
constexpr const char* cgroup_folder = "/sys/fs/cgroup/agentvm.exec";

void write_small(const char* path, std::string_view text) {
  const int fd = ::open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  [[maybe_unused]] const auto ignored = ::write(fd, text.data(), text.size());
  ::close(fd);
}

/// In the child, before exec: leave our protection from the OOM killer behind, and become the user. No allocation.
int become(const Account& account, bool change_user) {
  write_small("/proc/self/oom_score_adj", "0");
  write_small("/sys/fs/cgroup/agentvm.exec/cgroup.procs", "0");
  if (change_user) {
    if (::setgroups(account.groups.size(), account.groups.data()) < 0) return errno;
    if (::setgid(account.gid) < 0 || ::setuid(account.uid) < 0) return errno;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // setuid cleared it
  }
  ::umask(022);
  return 0;
}

}  // namespace

ExecRequest ExecRequest::from_json(const Json& json) {
  ExecRequest request;
  request.argv = require<std::vector<std::string>>(json, "argv");
  if (request.argv.empty() || request.argv[0].empty()) throw Error(ErrorCode::usage, "exec: argv is empty");
  request.env = value_or<std::map<std::string, std::string>>(json, "env", {});
  request.cwd = value_or<std::string>(json, "cwd", "");
  request.user = value_or<std::string>(json, "user", "");
  request.input = value_or(json, "input", false);
  return request;
}

ExecJob::ExecJob(std::uint32_t id, const ExecRequest& request, const std::filesystem::path& root) : id_(id) {
  const auto account = find_account(root, request.user.empty() ? "root" : request.user);
  auto in = make_pipe(), out = make_pipe(), err = make_pipe();
  ProcessSpec spec;
  spec.argv = request.argv;
  spec.env = std::map<std::string, std::string>{
      {"PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
      {"HOME", account.home},
      {"USER", account.name},
      {"LOGNAME", account.name},
      {"SHELL", account.shell},
      {"LANG", "C.UTF-8"},
  };
  for (const auto& [name, value] : request.env) (*spec.env)[name] = value;
  const bool home_exists = ::access(account.home.c_str(), X_OK) == 0;
  spec.cwd = !request.cwd.empty() ? request.cwd : home_exists ? account.home : std::string("/");
  spec.fds = {{0, in.first.get()}, {1, out.second.get()}, {2, err.second.get()}};
  spec.new_session = true;
  spec.die_with_parent = true;
  const bool change_user = account.uid != ::geteuid() || account.gid != ::getegid();
  spec.in_child = [&account, change_user] { return become(account, change_user); };
  if (::geteuid() == 0) ::mkdir(cgroup_folder, 0755);  // fails harmlessly until systemd has mounted cgroup2
  process_ = Process::spawn(spec);
  in_ = std::move(in.second);
  out_ = std::move(out.first);
  err_ = std::move(err.first);
  for (const auto* fd : {&in_, &out_, &err_}) set_nonblocking(fd->get(), true);
  if (!request.input) in_.reset();
}

ExecJob::~ExecJob() {
  if (process_ && !status_) ::kill(-process_->pid(), SIGKILL);
}

bool ExecJob::add_input(std::string_view bytes, bool end) {
  if (input_end_ || input_.size() + bytes.size() > exec_input_limit_bytes) return false;
  if (!in_) return true;  // the program closed its end: like a broken pipe, the rest is dropped
  input_ += bytes;
  input_end_ = end;
  pump_input();
  return true;
}

void ExecJob::grant(std::uint32_t bytes) {
  window_ = std::min<std::uint64_t>(window_ + bytes, output_window_bytes);
}

void ExecJob::pump_input() {
  while (in_ && !input_.empty()) {
    const ssize_t count = ::write(in_.get(), input_.data(), input_.size());
    if (count > 0) {
      input_.erase(0, static_cast<std::size_t>(count));
    } else if (errno == EAGAIN) {
      return;
    } else if (errno != EINTR) {
      input_.clear();
      in_.reset();
    }
  }
  if (input_end_) in_.reset();
}

std::string ExecJob::take(FrameType stream) {
  auto& fd = stream == FrameType::output ? out_ : err_;
  if (!fd || window_ == 0) return {};
  char buffer[read_bytes];
  ssize_t count;
  do count = ::read(fd.get(), buffer, std::min<std::uint64_t>(window_, sizeof buffer));
  while (count < 0 && errno == EINTR);
  if (count == 0 || (count < 0 && errno != EAGAIN)) fd.reset();
  if (count <= 0) return {};
  window_ -= static_cast<std::uint64_t>(count);
  return {buffer, static_cast<std::size_t>(count)};
}

void ExecJob::check_exit() {
  if (status_) return;
  status_ = process_->wait(Deadline::after(milliseconds(0)));
  if (!status_) return;
  grace_ = Deadline::after(pipe_grace);
  in_.reset();
  input_.clear();
}

bool ExecJob::finished() const {
  if (!status_) return false;
  // With an empty window nobody can tell whether the pipes hold more: the host decides when it has had enough.
  return (!out_ && !err_) || (window_ > 0 && grace_->expired());
}

std::optional<Deadline> ExecJob::grace() const {
  if (!status_ || window_ == 0) return std::nullopt;
  return grace_;
}

Json ExecJob::result() const {
  if (status_->signal) return {{"signaled", status_->signal}};
  return {{"exited", status_->code}};
}

}  // namespace agentvm::guest::agent
