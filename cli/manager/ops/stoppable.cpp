#include "cli/manager/ops/stoppable.hpp"

#include <sys/socket.h>

namespace agentvm::manager {
namespace {

using guest::Exec;
using guest::ExecSpec;
using guest::GuestStatus;
using guest::PtySize;

class StoppableExec final : public Exec {
 public:
  StoppableExec(std::unique_ptr<Exec> inner, std::stop_token stop) : inner_(std::move(inner)), stop_(std::move(stop)) {}

  UniqueFd take_io() override {
    auto io = inner_->take_io();
    io_ = duplicate(io.get());  // its own: the number of a closed one could be anything's
    on_stop_.emplace(stop_, [this] { ::shutdown(io_.get(), SHUT_RDWR); });
    return io;
  }
  UniqueFd take_err() override { return inner_->take_err(); }
  void resize(PtySize size) override { inner_->resize(size); }
  void signal(std::string_view name) override { inner_->signal(name); }
  std::optional<GuestStatus> wait(Deadline deadline) override { return inner_->wait(deadline); }
  void on_end(std::function<void(const GuestStatus&)> callback) override { inner_->on_end(std::move(callback)); }

 private:
  const std::unique_ptr<Exec> inner_;
  const std::stop_token stop_;
  UniqueFd io_;
  std::optional<std::stop_callback<std::function<void()>>> on_stop_;  // last: gone before what it uses
};

class StoppableStreams final : public guest::Streams {
 public:
  StoppableStreams(Streams& inner, std::stop_token stop) : inner_(inner), stop_(std::move(stop)) {}

  bool alive() const override { return inner_.alive(); }
  UniqueFd dial(const std::string& host, std::uint16_t port, Deadline deadline) override {
    check();
    return inner_.dial(host, port, deadline);
  }
  void dial_async(const std::string& host, std::uint16_t port, Deadline deadline, Dialled callback) override {
    inner_.dial_async(host, port, deadline, std::move(callback));
  }
  std::unique_ptr<guest::Listener> accept(std::uint16_t port, std::function<void(UniqueFd)> on_connection,
                                          Deadline deadline) override {
    check();
    return inner_.accept(port, std::move(on_connection), deadline);
  }
  std::unique_ptr<Exec> exec(const ExecSpec& spec, Deadline deadline) override {
    check();
    return std::make_unique<StoppableExec>(inner_.exec(spec, deadline), stop_);
  }
  void expect_silence(bool silent) override { inner_.expect_silence(silent); }
  void on_lost(std::function<void(const std::string&)> callback) override { inner_.on_lost(std::move(callback)); }

 private:
  void check() const {
    if (stop_.stop_requested()) throw Error(ErrorCode::cancelled, "stopped");
  }
  guest::Streams& inner_;
  const std::stop_token stop_;
};

}  // namespace

std::unique_ptr<guest::Streams> stoppable(guest::Streams& inner, std::stop_token stop) {
  return std::make_unique<StoppableStreams>(inner, std::move(stop));
}

}  // namespace agentvm::manager
