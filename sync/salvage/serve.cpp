#include "sync/salvage/serve.hpp"

#include <algorithm>
#include <csignal>
#include <cstring>
#include <mutex>

#include <sys/resource.h>
#include <sys/socket.h>

#include "sync/host_git.hpp"

namespace agentvm::sync {
namespace {

// The objects are a guest's: a git that they confuse must end by itself.
constexpr rlim_t data_limit_bytes = 4ULL << 30;
constexpr rlim_t processor_seconds = 1800;

class UploadPack final : public guest::Exec {
 public:
  explicit UploadPack(const fs::path& repository) {
    auto io = make_socketpair();
    auto err = make_pipe();
    auto spec = HostGit(repository, HostGit::Config::none).spec({"upload-pack", "--strict", repository.string()});
    spec.env->erase("GIT_PROTOCOL");
    spec.fds = {{0, io.second.get()}, {1, io.second.get()}, {2, err.second.get()}};
    spec.in_child = [] {
      const rlimit memory{data_limit_bytes, data_limit_bytes}, time{processor_seconds, processor_seconds};
      return ::setrlimit(RLIMIT_DATA, &memory) < 0 || ::setrlimit(RLIMIT_CPU, &time) < 0 ? errno : 0;
    };
    process_.emplace(Process::spawn(spec));
    io_ = std::move(io.first);
    err_ = std::move(err.first);
  }

  UniqueFd take_io() override { return std::move(io_); }
  UniqueFd take_err() override { return std::move(err_); }
  void resize(guest::PtySize) override {}
  void signal(std::string_view) override {
    const std::lock_guard lock(mutex_);
    process_->send_signal(SIGTERM);
  }
  std::optional<guest::GuestStatus> wait(Deadline deadline) override {
    const std::lock_guard lock(mutex_);
    const auto status = process_->wait(deadline);
    if (!status) return std::nullopt;
    using Kind = guest::GuestStatus::Kind;
    if (status->signal == 0) return guest::GuestStatus{Kind::exited, status->code, ""};
    const char* name = ::sigabbrev_np(status->signal);
    return guest::GuestStatus{Kind::signaled, 0, name ? name : "KILL"};
  }
  void on_end(std::function<void(const guest::GuestStatus&)>) override {
    throw Error(ErrorCode::wrong_state, "nobody watches the end of a salvaged repository's server");
  }

 private:
  std::mutex mutex_;  // guards process_
  std::optional<Process> process_;
  UniqueFd io_, err_;
};

[[noreturn]] void refuse() {
  throw Error(ErrorCode::wrong_state, "the guest is gone; only its commits can be fetched");
}

class ServedRepository final : public guest::Streams {
 public:
  explicit ServedRepository(fs::path repository) : repository_(std::move(repository)) {}
  bool alive() const override { return true; }
  UniqueFd dial(const std::string&, std::uint16_t, Deadline) override { refuse(); }
  void dial_async(const std::string&, std::uint16_t, Deadline, Dialled callback) override {
    const Error error(ErrorCode::wrong_state, "the guest is gone");
    callback({}, &error);
  }
  std::unique_ptr<guest::Listener> accept(std::uint16_t, std::function<void(UniqueFd)>, Deadline) override { refuse(); }
  std::unique_ptr<guest::Exec> exec(const guest::ExecSpec& spec, Deadline) override {
    if (std::find(spec.argv.begin(), spec.argv.end(), "git-upload-pack") == spec.argv.end()) refuse();
    return std::make_unique<UploadPack>(repository_);
  }
  void on_lost(std::function<void(const std::string&)>) override {}

 private:
  fs::path repository_;
};

}  // namespace

std::unique_ptr<guest::Streams> serve_repository(const fs::path& repository) {
  return std::make_unique<ServedRepository>(repository);
}

}  // namespace agentvm::sync
