#pragma once
// Dev servers at their own number on the host, too (`proxy.same_port`): which listeners there are to be, and why some
// are not.

#include <functional>
#include <set>
#include <string>

#include "proxy/route/routes.hpp"

namespace agentvm::proxy {

inline constexpr std::uint16_t least_same_port = 1024;  ///< below it ports are the system's
inline constexpr std::size_t same_port_limit = 64, same_port_sandbox_limit = 16;

/// Keeps one listener for each number that a server of a running sandbox has, however many sandboxes share it. One
/// thread at a time.
class SamePorts {
 public:
  struct Host {
    /// "" when it listens now, else why not. A number that is refused is asked for again with each `follow`.
    std::function<std::string(std::uint16_t number)> open;
    std::function<void(std::uint16_t number)> close;
  };
  /// `own`: the number that the proxy has for itself.
  SamePorts(std::uint16_t own, Host host) : own_(own), host_(std::move(host)) {}

  /// Closes what nobody has any more, opens what somebody has now, and marks every port in `routes` (`same_port`,
  /// `same_port_problem`). What is open stays: a newcomer takes nobody's place.
  void follow(Routes& routes);

 private:
  std::string try_open(const std::string& sandbox, std::uint16_t number, std::size_t of_sandbox);
  void close_unused(const Routes& routes);
  void tell_once(const std::string& sandbox, std::uint16_t number, const std::string& problem);
  const std::uint16_t own_;
  const Host host_;
  std::set<std::uint16_t> open_, told_;
};

}  // namespace agentvm::proxy
