#pragma once
// TLS ClientHellos as a client would send them, and as none would.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace agentvm::test {

inline std::string big_endian(std::size_t value, std::size_t bytes) {
  std::string text;
  while (bytes-- > 0) text += static_cast<char>(value >> (8 * bytes));
  return text;
}
/// `text` behind its length in `bytes` bytes.
inline std::string sized(const std::string& text, std::size_t bytes) {
  return big_endian(text.size(), bytes) + text;
}
inline std::string tls_extension(std::uint16_t kind, const std::string& content) {
  return big_endian(kind, 2) + sized(content, 2);
}
inline std::string server_name_extension(const std::string& name) {
  return tls_extension(0, sized(std::string(1, '\0') + sized(name, 2), 2));
}
inline std::string tls_record(const std::string& content) {
  return std::string("\x16\x03\x01") + sized(content, 2);
}
/// The handshake message, without a record around it.
inline std::string client_hello_message(const std::string& extensions) {
  const std::string body = "\x03\x03" + std::string(32, 'r') + sized(std::string(32, 's'), 1) +
                           sized("\x13\x01\x13\x02", 2) + sized(std::string(1, '\0'), 1) + sized(extensions, 2);
  return "\x01" + sized(body, 3);
}
/// As programs send it, with other extensions around the name.
inline std::string client_hello(const std::optional<std::string>& name, const std::string& more = "") {
  const std::string groups = tls_extension(10, sized(std::string("\x00\x1d", 2), 2));
  const std::string versions = tls_extension(43, sized("\x03\x04", 1));
  return tls_record(client_hello_message(groups + (name ? server_name_extension(*name) : "") + versions + more));
}

}  // namespace agentvm::test
