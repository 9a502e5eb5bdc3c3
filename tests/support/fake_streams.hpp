#pragma once
// The one fake of guest::Streams: "the guest" is this machine. exec runs a local process, or a function of the test in
// a thread.

#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "guest/streams.hpp"

namespace agentvm::test {

class FakeStreams : public guest::Streams {
 public:
  /// A program that the test plays itself: reads and writes `io`, may write to `err`; its result is the exit code. Runs
  /// in its own thread, which is joined when the Exec goes: end when `io` ends.
  using Program = std::function<int(const guest::ExecSpec& spec, int io, int err)>;
  /// Asked first for every exec; an empty Program lets the real process run.
  using Chooser = std::function<Program(const guest::ExecSpec& spec)>;

  FakeStreams() = default;
  explicit FakeStreams(Chooser chooser) : chooser_(std::move(chooser)) {}

  bool alive() const override;
  /// Connects to this machine's loopback.
  UniqueFd dial(const std::string& host, std::uint16_t port, Deadline deadline) override;
  void dial_async(const std::string& host, std::uint16_t port, Deadline deadline, Dialled callback) override;
  /// `connect_to` below plays the guest's side.
  std::unique_ptr<guest::Listener> accept(std::uint16_t port, std::function<void(UniqueFd)> on_connection,
                                          Deadline deadline) override;
  std::unique_ptr<guest::Exec> exec(const guest::ExecSpec& spec, Deadline deadline) override;
  void on_lost(std::function<void(const std::string& reason)> callback) override;

  /// A guest program connects to a port we listen on; throws when nobody listens.
  UniqueFd connect_to(std::uint16_t port);
  /// The connection to the guest breaks: every later call throws.
  void lose(const std::string& reason);
  /// What was executed so far.
  std::vector<guest::ExecSpec> executed() const;

 private:
  friend class FakeListener;
  mutable std::mutex mutex_;  // guards everything below
  Chooser chooser_;
  bool alive_ = true;
  std::string reason_;
  std::vector<guest::ExecSpec> executed_;
  std::map<std::uint16_t, std::function<void(UniqueFd)>> listeners_;
  std::vector<std::function<void(const std::string&)>> lost_callbacks_;
};

}  // namespace agentvm::test
