#pragma once
// One program that the host runs in the guest: its process, its pipes, its share of the window.

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "guest/protocol/frame.hpp"
#include "vmm/base/json.hpp"
#include "vmm/base/process.hpp"

namespace agentvm::guest::agent {

struct ExecRequest {
  std::vector<std::string> argv;
  std::map<std::string, std::string> env;
  std::string cwd;     ///< empty: the user's home
  std::string user;    ///< empty: root
  bool input = false;  ///< input frames follow; otherwise standard input is empty

  static ExecRequest from_json(const Json& json);
};

/// Not thread-safe. Destroying it kills the whole process group.
class ExecJob {
 public:
  /// Throws `not_found` (user), `host_lacks` (program, working directory). `root`: where passwd and group are read.
  ExecJob(std::uint32_t id, const ExecRequest& request, const std::filesystem::path& root);
  ~ExecJob();
  ExecJob(const ExecJob&) = delete;
  ExecJob& operator=(const ExecJob&) = delete;

  std::uint32_t id() const { return id_; }
  int input_fd() const { return input_.empty() ? -1 : in_.get(); }
  int output_fd() const { return window_ > 0 ? out_.get() : -1; }
  int error_fd() const { return window_ > 0 ? err_.get() : -1; }
  int exit_fd() const { return status_ ? -1 : process_->pidfd(); }

  /// False when more than the limit waits to be read by the program.
  bool add_input(std::string_view bytes, bool end);
  void grant(std::uint32_t bytes);
  void pump_input();
  /// The next bytes of a stream, at most what the window and one frame allow; empty: nothing now or ended.
  std::string take(FrameType stream);
  void check_exit();
  /// It exited and its pipes are empty, or its grandchildren kept them open for longer than the grace time.
  bool finished() const;
  /// How it ended: {"exited": code} or {"signaled": number}.
  Json result() const;
  /// For the poll timeout while a finished program's pipes are held open by others.
  std::optional<Deadline> grace() const;

 private:
  std::uint32_t id_;
  std::optional<Process> process_;
  UniqueFd in_, out_, err_;
  std::string input_;
  bool input_end_ = false;
  std::uint64_t window_ = output_window_bytes;
  std::optional<ExitStatus> status_;
  std::optional<Deadline> grace_;
};

}  // namespace agentvm::guest::agent
