#include "guest/agent/port_watch.hpp"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string_view>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest/agent/token.hpp"
#include "guest/protocol/frame.hpp"
#include "vmm/base/fd.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::guest::agent {
namespace {

namespace fs = std::filesystem;
constexpr unsigned state_listen = 10;  // TCP_LISTEN of the kernel; the header clashes with netinet/tcp.h
constexpr milliseconds netlink_limit{1000};

std::string address_text(int family, const void* bytes) {
  char text[INET6_ADDRSTRLEN] = "";
  ::inet_ntop(family, bytes, text, sizeof text);
  return text;
}

/// One dump of sock_diag: only what listens is walked, however many connections there are. Nothing when the kernel does
/// not answer (the module is not there).
std::optional<std::vector<ListeningSocket>> ask_kernel(int netlink, unsigned char family) {
  struct {
    nlmsghdr head;
    inet_diag_req_v2 body;
  } request{};
  request.head.nlmsg_len = sizeof request;
  request.head.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.body.sdiag_family = family;
  request.body.sdiag_protocol = IPPROTO_TCP;
  request.body.idiag_states = 1u << state_listen;
  if (::send(netlink, &request, sizeof request, 0) != static_cast<ssize_t>(sizeof request)) return std::nullopt;
  std::vector<ListeningSocket> sockets;
  alignas(nlmsghdr) char buffer[32 * 1024];
  const auto deadline = Deadline::after(netlink_limit);
  while (wait_for(netlink, POLLIN, deadline)) {
    const ssize_t size = ::recv(netlink, buffer, sizeof buffer, MSG_DONTWAIT);
    if (size <= 0) return std::nullopt;
    auto left = static_cast<unsigned>(size);
    for (auto* head = reinterpret_cast<nlmsghdr*>(buffer); NLMSG_OK(head, left); head = NLMSG_NEXT(head, left)) {
      if (head->nlmsg_type == NLMSG_DONE) return sockets;
      if (head->nlmsg_type == NLMSG_ERROR || head->nlmsg_len < NLMSG_LENGTH(sizeof(inet_diag_msg))) return std::nullopt;
      inet_diag_msg message;
      std::memcpy(&message, NLMSG_DATA(head), sizeof message);
      sockets.push_back(
          {message.idiag_inode, ntohs(message.id.idiag_sport), address_text(family, message.id.idiag_src)});
    }
  }
  return std::nullopt;
}

std::optional<std::vector<ListeningSocket>> ask_kernel() {
  const UniqueFd netlink(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!netlink) return std::nullopt;
  auto sockets = ask_kernel(netlink.get(), AF_INET);
  const auto v6 = ask_kernel(netlink.get(), AF_INET6);
  if (!sockets || !v6) return std::nullopt;
  sockets->insert(sockets->end(), v6->begin(), v6->end());
  return sockets;
}

/// "0100007F:0BB8": each 32-bit word in the machine's byte order.
bool parse_local(std::string_view text, ListeningSocket& socket) {
  const auto colon = text.find(':');
  if (colon != 8 && colon != 32) return false;
  std::uint32_t words[4] = {};
  for (std::size_t i = 0; i * 8 < colon; ++i) {
    const auto part = text.substr(i * 8, 8);
    if (std::from_chars(part.data(), part.data() + part.size(), words[i], 16).ptr != part.data() + part.size())
      return false;
  }
  const auto port = text.substr(colon + 1);
  if (std::from_chars(port.data(), port.data() + port.size(), socket.port, 16).ptr != port.data() + port.size())
    return false;
  socket.address = address_text(colon == 8 ? AF_INET : AF_INET6, words);
  return true;
}

bool is_number(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789") == text.npos;
}

std::string link_text(const fs::path& path) {
  std::error_code error;
  const auto target = fs::read_symlink(path, error);
  return error ? std::string() : target.string().substr(0, 512);
}

/// What is no UTF-8 cannot be told in JSON.
std::string plain(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7f) c = '?';
  return text;
}

}  // namespace

std::vector<ListeningSocket> parse_proc_net_tcp(const std::string& text) {
  std::vector<ListeningSocket> sockets;
  for (std::size_t start = 0; start < text.size();) {
    const auto end = std::min(text.find('\n', start), text.size());
    std::string_view line(text.data() + start, end - start);
    start = end + 1;
    // number, local, remote, state, queues, timer, retransmits, uid, timeout, inode
    std::string_view fields[10];
    std::size_t count = 0;
    while (count < 10 && !line.empty()) {
      line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
      const auto size = std::min(line.find(' '), line.size());
      fields[count++] = line.substr(0, size);
      line.remove_prefix(size);
    }
    ListeningSocket socket;
    if (count < 10 || fields[3] != "0A" || !parse_local(fields[1], socket)) continue;
    std::from_chars(fields[9].data(), fields[9].data() + fields[9].size(), socket.inode);
    sockets.push_back(std::move(socket));
  }
  return sockets;
}

std::vector<ListeningSocket> PortWatch::listening() const {
  std::vector<ListeningSocket> sockets;
  auto answered = root_ == "/" ? ask_kernel() : std::nullopt;
  if (answered) {
    sockets = std::move(*answered);
  } else {
    for (const char* table : {"proc/net/tcp", "proc/net/tcp6"})
      if (const auto text = read_file_if_exists(root_ / table, 8u << 20)) {
        const auto some = parse_proc_net_tcp(*text);
        sockets.insert(sockets.end(), some.begin(), some.end());
      }
  }
  std::sort(sockets.begin(), sockets.end(), [](const ListeningSocket& a, const ListeningSocket& b) {
    return std::tie(a.port, a.address, a.inode) < std::tie(b.port, b.address, b.inode);
  });
  if (sockets.size() > listening_port_limit) sockets.resize(listening_port_limit);
  return sockets;
}

/// The lowest process that holds each socket: of a server and its workers, the server.
void PortWatch::find_owners(const std::vector<ListeningSocket>& sockets) {
  std::map<std::uint64_t, Owner> owners;
  std::map<std::string, std::uint64_t> wanted;  // what the link of a descriptor says
  for (const auto& socket : sockets) {
    const auto known = owners_.find(socket.inode);
    if (known != owners_.end())
      owners.insert(*known);
    else
      wanted[fmt::format("socket:[{}]", socket.inode)] = socket.inode;
  }
  std::vector<unsigned> processes;
  std::error_code error;
  if (!wanted.empty())
    for (const auto& entry : fs::directory_iterator(root_ / "proc", error))
      if (const auto name = entry.path().filename().string(); is_number(name) && name.size() < 10)
        processes.push_back(static_cast<unsigned>(std::strtoul(name.c_str(), nullptr, 10)));
  std::sort(processes.begin(), processes.end());
  for (const auto process : processes) {
    if (wanted.empty()) break;
    const auto folder = root_ / "proc" / std::to_string(process);
    fs::directory_iterator descriptors(folder / "fd", error);
    for (; !error && descriptors != fs::directory_iterator(); descriptors.increment(error)) {
      const auto found = wanted.find(link_text(descriptors->path()));
      if (found == wanted.end()) continue;
      auto name = read_file_if_exists(folder / "comm", 64).value_or("");
      while (!name.empty() && name.back() == '\n') name.pop_back();
      owners[found->second] = {plain(std::move(name)), plain(link_text(folder / "cwd"))};
      wanted.erase(found);
    }
    error.clear();
  }
  for (const auto& [link, inode] : wanted) owners[inode] = {};  // the kernel's own: not looked for again
  owners_ = std::move(owners);
}

void PortWatch::update() {
  auto sockets = listening();
  if (sockets == sockets_ && !token_.empty()) return;
  find_owners(sockets);
  sockets_ = std::move(sockets);
  ports_ = Json::array();
  for (const auto& socket : sockets_) {
    const auto& owner = owners_[socket.inode];
    ports_.push_back(
        {{"port", socket.port}, {"address", socket.address}, {"process", owner.process}, {"folder", owner.folder}});
  }
  token_ = token_of(ports_);
}

}  // namespace agentvm::guest::agent
