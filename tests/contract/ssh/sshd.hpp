#pragma once
// A real OpenSSH sshd on loopback with a configuration of its own, for one test.

#include <filesystem>
#include <optional>
#include <string>

#include "guest/ssh/keys.hpp"
#include "guest/ssh/ssh.hpp"
#include "vmm/base/process.hpp"

namespace agentvm::guest {

class Sshd {
 public:
  /// `more`: lines for its configuration. Throws when no sshd is installed or it does not come up.
  explicit Sshd(const std::string& more = "");
  ~Sshd();
  SshEndpoint endpoint() const;
  /// SIGKILL for the listener and every connection of it, as when a guest dies.
  void kill();
  /// SIGSTOP for them: the connection stays open and nothing answers any more.
  void freeze();
  void thaw();
  std::string log() const;
  /// The "guest" user's home: that user may write there.
  std::filesystem::path home() const { return folder_ / "home"; }

 private:
  void signal_all(int signal);
  std::filesystem::path folder_;
  KeyPair host_, client_;
  std::uint16_t port_ = 0;
  std::optional<Process> process_;
};

/// A port on 127.0.0.1 that was free a moment ago.
std::uint16_t free_port();
/// Everything until the end of the stream.
std::string read_to_end(int fd, Deadline deadline);
std::unique_ptr<Streams> connect(const Sshd& sshd, const SshOptions& options = {});

}  // namespace agentvm::guest
