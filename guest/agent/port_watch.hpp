#pragma once
// The TCP ports that something in the guest listens on, and who it is. Asked again and again, it costs two netlink
// dumps of the listening sockets; processes are looked at only when a socket is new.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "vmm/base/json.hpp"

namespace agentvm::guest::agent {

/// A socket in the state LISTEN.
struct ListeningSocket {
  std::uint64_t inode = 0;
  std::uint16_t port = 0;
  std::string address;  ///< as inet_ntop writes it: "0.0.0.0", "::1"
  auto operator<=>(const ListeningSocket&) const = default;
};

/// The listening sockets of a /proc/net/tcp or tcp6. Pure; lines that make no sense are left out.
std::vector<ListeningSocket> parse_proc_net_tcp(const std::string& text);

class PortWatch {
 public:
  /// `root`: where proc/ is. "/" asks the kernel over netlink, where it answers.
  explicit PortWatch(std::filesystem::path root) : root_(std::move(root)) {}
  /// Looks. Never throws for what a program of the guest does.
  void update();
  /// Differs whenever `ports` does.
  const std::string& token() const { return token_; }
  /// [{port, address, process, folder}], by port; `process` and `folder` are empty when unknown.
  const Json& ports() const { return ports_; }

 private:
  struct Owner {
    std::string process, folder;
  };
  std::vector<ListeningSocket> listening() const;
  void find_owners(const std::vector<ListeningSocket>& sockets);
  std::filesystem::path root_;
  std::vector<ListeningSocket> sockets_;
  std::map<std::uint64_t, Owner> owners_;  // by inode
  std::string token_;
  Json ports_ = Json::array();
};

}  // namespace agentvm::guest::agent
