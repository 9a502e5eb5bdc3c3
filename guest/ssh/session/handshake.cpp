#include "guest/ssh/session/handshake.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/error.hpp"
#include "vmm/base/fd.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::guest {
namespace {

// AES-GCM first: with AES-NI it costs a third of chacha20, and the link is the host's own loopback. All of them carry
// their own authentication: the MAC is never used, and keeps libssh from offering older ones.
constexpr const char* ciphers = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com";
constexpr const char* macs = "hmac-sha2-256-etm@openssh.com";
constexpr const char* key_exchanges = "curve25519-sha256,curve25519-sha256@libssh.org";

/// Waits for `fd` or the deadline; throws `cancelled` when `cancel_fd` is readable first.
void wait_ready(int fd, short events, Deadline deadline, int cancel_fd, const std::string& what) {
  pollfd fds[2] = {{fd, events, 0}, {cancel_fd, POLLIN, 0}};
  const int ready = ::poll(fds, cancel_fd >= 0 ? 2 : 1, deadline.poll_timeout());
  if (ready < 0 && errno != EINTR) throw_errno("waiting for the guest's sshd");
  if (ready > 0 && fds[1].revents != 0) throw Error(ErrorCode::cancelled, what + ": given up");
  if (deadline.expired()) throw Error(ErrorCode::timed_out, what + ": no answer in time");
}

UniqueFd connect_tcp(const SshEndpoint& endpoint, Deadline deadline, int cancel_fd, const std::string& what) {
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  const sockaddr* address = nullptr;
  socklen_t size = 0;
  if (::inet_pton(AF_INET, endpoint.host.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(endpoint.port);
    address = reinterpret_cast<const sockaddr*>(&v4);
    size = sizeof v4;
  } else if (::inet_pton(AF_INET6, endpoint.host.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(endpoint.port);
    address = reinterpret_cast<const sockaddr*>(&v6);
    size = sizeof v6;
  } else {
    throw Error(ErrorCode::usage, fmt::format("'{}' is not a numeric address", endpoint.host));
  }
  UniqueFd fd(
      check_errno(::socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), "making a socket"));
  if (::connect(fd.get(), address, size) != 0) {
    if (errno != EINPROGRESS) throw_errno(what);
    wait_ready(fd.get(), POLLOUT, deadline, cancel_fd, what);
    int error = 0;
    socklen_t length = sizeof error;
    check_errno(::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &length), what);
    if (error != 0) throw_errno(what, error);
  }
  const int on = 1;
  check_errno(::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), "setting TCP_NODELAY");
  return fd;
}

void set_option(ssh_session session, ssh_options_e option, const void* value) {
  if (ssh_options_set(session, option, value) != SSH_OK)
    throw Error(ErrorCode::operation_failed, fmt::format("libssh refused an option: {}", ssh_error_text(session)));
}

SessionPtr make_session(const SshEndpoint& endpoint, const SshOptions& options) {
  SessionPtr session(ssh_new());
  if (!session) throw Error(ErrorCode::operation_failed, "libssh is out of memory");
  // Nothing of the user's own ssh set-up may take part: no configuration, no known hosts, no agent.
  const bool no = false;
  set_option(session.get(), SSH_OPTIONS_PROCESS_CONFIG, &no);
  set_option(session.get(), SSH_OPTIONS_KNOWNHOSTS, "/dev/null");
  set_option(session.get(), SSH_OPTIONS_GLOBAL_KNOWNHOSTS, "/dev/null");
  set_option(session.get(), SSH_OPTIONS_HOST, endpoint.host.c_str());
  const unsigned port = endpoint.port;
  set_option(session.get(), SSH_OPTIONS_PORT, &port);
  set_option(session.get(), SSH_OPTIONS_USER, endpoint.user.c_str());
  set_option(session.get(), SSH_OPTIONS_HOSTKEYS, "ssh-ed25519");
  set_option(session.get(), SSH_OPTIONS_PUBLICKEY_ACCEPTED_TYPES, "ssh-ed25519");
  set_option(session.get(), SSH_OPTIONS_KEY_EXCHANGE, key_exchanges);
  set_option(session.get(), SSH_OPTIONS_CIPHERS_C_S, ciphers);
  set_option(session.get(), SSH_OPTIONS_CIPHERS_S_C, ciphers);
  set_option(session.get(), SSH_OPTIONS_HMAC_C_S, macs);
  set_option(session.get(), SSH_OPTIONS_HMAC_S_C, macs);
  set_option(session.get(), SSH_OPTIONS_COMPRESSION, "no");
  const int on = 1;
  set_option(session.get(), SSH_OPTIONS_NODELAY, &on);
  const int off = 0;
  set_option(session.get(), SSH_OPTIONS_GSSAPI_DELEGATE_CREDENTIALS, &off);
  const std::uint64_t rekey = options.rekey_bytes;
  if (rekey != 0) set_option(session.get(), SSH_OPTIONS_REKEY_DATA, &rekey);
  ssh_set_blocking(session.get(), 0);
  return session;
}

KeyPtr load_private_key(const std::string& key) {
  const std::string pem = key.find("-----BEGIN") != std::string::npos ? key : read_file(key, 64 * 1024);
  ssh_key raw = nullptr;
  if (ssh_pki_import_privkey_base64(pem.c_str(), nullptr, nullptr, nullptr, &raw) != SSH_OK)
    throw Error(ErrorCode::operation_failed,
                "the sandbox's client key cannot be read: it is not an unencrypted OpenSSH private key");
  return KeyPtr(raw);
}

/// A descriptor that was given to it as an option stays its giver's, and from libssh 0.11 on it forgets one whose peer
/// hung up without closing it. Afterwards it is the session's own, and closed with it in each version.
void give_socket_away(ssh_session session) {
  const socket_t none = SSH_INVALID_SOCKET;
  ssh_options_set(session, SSH_OPTIONS_FD, &none);  // says that it is no descriptor, and takes it
}

void check_host_key(ssh_session session, const ssh_key pinned, const std::string& what) {
  ssh_key raw = nullptr;
  if (ssh_get_server_publickey(session, &raw) != SSH_OK)
    throw Error(ErrorCode::operation_failed, what + ": no host key was shown");
  const KeyPtr shown(raw);
  if (ssh_key_cmp(shown.get(), pinned, SSH_KEY_CMP_PUBLIC) != 0)
    throw Error(ErrorCode::operation_failed, fmt::format("{}: something else answers there: host key {} instead of {}",
                                                         what, fingerprint(shown.get()), fingerprint(pinned)));
}

}  // namespace

std::string ssh_error_text(ssh_session session) {
  const char* text = ssh_get_error(session);
  return text != nullptr && *text != '\0' ? clean_guest_text(text, Newlines::escape, 300) : "no reason given";
}

Handshake shake_hands(const SshEndpoint& endpoint, const SshOptions& options, Deadline deadline, int cancel_fd) {
  const std::string what =
      fmt::format("connecting to sandbox {} (ssh on {}:{})", endpoint.name, endpoint.host, endpoint.port);
  const KeyPtr pinned = parse_public_line(endpoint.host_key);
  const KeyPtr client = load_private_key(endpoint.private_key);
  UniqueFd fd = connect_tcp(endpoint, deadline, cancel_fd, what);
  const int socket = fd.get();
  SessionPtr session = make_session(endpoint, options);
  const socket_t handed_over = socket;
  set_option(session.get(), SSH_OPTIONS_FD, &handed_over);
  const auto wait = [&] {
    const bool pending = (ssh_get_poll_flags(session.get()) & SSH_WRITE_PENDING) != 0;
    wait_ready(socket, static_cast<short>(POLLIN | (pending ? POLLOUT : 0)), deadline, cancel_fd, what);
  };
  // From its first call libssh has the descriptor, whatever that call returns.
  int result = ssh_connect(session.get());
  static_cast<void>(fd.release());
  auto problem = ssh_error_text(session.get());
  give_socket_away(session.get());
  while (result == SSH_AGAIN) {
    wait();
    result = ssh_connect(session.get());
    problem = ssh_error_text(session.get());
  }
  if (result != SSH_OK) throw Error(ErrorCode::operation_failed, fmt::format("{}: {}", what, problem));
  check_host_key(session.get(), pinned.get(), what);
  int answer = ssh_userauth_publickey(session.get(), nullptr, client.get());
  while (answer == SSH_AUTH_AGAIN) {
    wait();
    answer = ssh_userauth_publickey(session.get(), nullptr, client.get());
  }
  if (answer != SSH_AUTH_SUCCESS)
    throw Error(ErrorCode::operation_failed, fmt::format("{}: the guest does not let user {} in: {}", what,
                                                         endpoint.user, ssh_error_text(session.get())));
  return {std::move(session), socket};
}

}  // namespace agentvm::guest
