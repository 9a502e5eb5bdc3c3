// Interfaces by ioctl: lo and one virtio NIC, IPv4. Nothing here needs a helper program or netlink.

#include <cstring>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <net/if.h>
#include <net/route.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "guest/agent/machine.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::guest::agent {
namespace {

UniqueFd control_socket() {
  return UniqueFd(check_errno(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket"));
}

ifreq request_for(const std::string& interface) {
  ifreq request{};
  std::strncpy(request.ifr_name, interface.c_str(), IFNAMSIZ - 1);
  return request;
}

void bring_up(int fd, const std::string& interface) {
  auto request = request_for(interface);
  check_errno(::ioctl(fd, SIOCGIFFLAGS, &request), "reading the flags of " + interface);
  request.ifr_flags |= IFF_UP | IFF_RUNNING;
  check_errno(::ioctl(fd, SIOCSIFFLAGS, &request), "bringing up " + interface);
}

sockaddr_in parse_address(const std::string& text) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  if (::inet_pton(AF_INET, text.c_str(), &address.sin_addr) != 1)
    throw Error(ErrorCode::operation_failed, "'" + text + "' is not an IPv4 address");
  return address;
}

std::string find_nic() {
  std::error_code problem;
  for (const auto& entry : fs::directory_iterator("/sys/class/net", problem))
    if (fs::exists(entry.path() / "device", problem)) return entry.path().filename();
  return "";
}

}  // namespace

void configure_loopback() {
  bring_up(control_socket().get(), "lo");
}

void configure_network(const GuestNetwork& network, Deadline deadline) {
  auto nic = find_nic();
  for (; nic.empty(); nic = find_nic()) {
    if (deadline.expired()) throw Error(ErrorCode::timed_out, "no network interface appeared");
    ::poll(nullptr, 0, 5);
  }
  const auto fd = control_socket();
  auto request = request_for(nic);
  auto address = parse_address(network.address);
  std::memcpy(&request.ifr_addr, &address, sizeof address);
  check_errno(::ioctl(fd.get(), SIOCSIFADDR, &request), fmt::format("setting the address of {}", nic));
  address.sin_addr.s_addr = htonl(~std::uint32_t{0} << (32 - network.prefix));
  std::memcpy(&request.ifr_netmask, &address, sizeof address);
  check_errno(::ioctl(fd.get(), SIOCSIFNETMASK, &request), fmt::format("setting the netmask of {}", nic));
  bring_up(fd.get(), nic);
  if (network.gateway.empty()) return;
  rtentry route{};
  const auto gateway = parse_address(network.gateway);
  sockaddr_in any{};
  any.sin_family = AF_INET;
  std::memcpy(&route.rt_gateway, &gateway, sizeof gateway);
  std::memcpy(&route.rt_dst, &any, sizeof any);
  std::memcpy(&route.rt_genmask, &any, sizeof any);
  route.rt_flags = RTF_UP | RTF_GATEWAY;
  check_errno(::ioctl(fd.get(), SIOCADDRT, &route), "setting the default route");
}

}  // namespace agentvm::guest::agent
