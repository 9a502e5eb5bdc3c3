#include "proxy/egress/client_hello.hpp"

#include <algorithm>
#include <cstdint>
#include <set>

#include <fmt/format.h>

#include "vmm/base/text.hpp"

namespace agentvm::egress {
namespace {

constexpr std::uint8_t handshake_record = 22, client_hello_message = 1;
constexpr std::size_t record_header_bytes = 5, message_header_bytes = 4, record_limit_bytes = 16 * 1024;
constexpr std::uint16_t server_name_extension = 0, encrypted_hello_extension = 0xfe0d;
constexpr std::size_t extension_limit = 64;

struct Refused {
  std::string reason;
};
[[noreturn]] void refuse(std::string reason) {
  throw Refused{std::move(reason)};
}

/// Takes bytes from the front; a length that does not fit is a refusal.
class Reader {
 public:
  explicit Reader(std::string_view data) : data_(data) {}
  bool empty() const { return data_.empty(); }
  std::uint32_t number(std::size_t bytes) {
    std::uint32_t value = 0;
    for (const char c : take(bytes)) value = value << 8 | static_cast<std::uint8_t>(c);
    return value;
  }
  std::string_view take(std::size_t bytes) {
    if (bytes > data_.size()) refuse("the TLS ClientHello is malformed");
    const auto taken = data_.substr(0, bytes);
    data_.remove_prefix(bytes);
    return taken;
  }
  /// What a length of `bytes` bytes announces.
  std::string_view vector(std::size_t bytes) { return take(number(bytes)); }

 private:
  std::string_view data_;
};

std::string server_name(std::string_view extension) {
  Reader reader(extension);
  Reader list(reader.vector(2));
  if (!reader.empty()) refuse("the TLS server name is malformed");
  if (list.number(1) != 0) refuse("the TLS server name is of an unknown kind");
  const auto name = list.vector(2);
  // Two names are one too many: which of them the server heeds is its own affair.
  if (!list.empty()) refuse("the TLS ClientHello names more than one server");
  const auto normal = normal_host(name);
  if (!normal || name.ends_with('.')) refuse("the TLS server name is no DNS name");
  return *normal;
}

ClientHello parse_extensions(std::string_view extensions) {
  ClientHello hello;
  std::set<std::uint32_t> seen;
  for (Reader reader(extensions); !reader.empty();) {
    const auto kind = reader.number(2);
    const auto content = reader.vector(2);
    if (!seen.insert(kind).second) refuse("the TLS ClientHello has an extension twice");
    if (seen.size() > extension_limit) refuse("the TLS ClientHello has too many extensions");
    if (kind == server_name_extension) hello.name = server_name(content);
    if (kind == encrypted_hello_extension) hello.encrypted = true;
  }
  return hello;
}

ClientHello parse_body(std::string_view body) {
  Reader reader(body);
  if (reader.number(2) >> 8 != 3) refuse("the TLS version is unknown");
  reader.take(32);  // random
  if (reader.vector(1).size() > 32) refuse("the TLS session id is too long");
  const auto ciphers = reader.vector(2);
  if (ciphers.empty() || ciphers.size() % 2 != 0) refuse("the TLS cipher suites are malformed");
  if (reader.vector(1).empty()) refuse("the TLS compression methods are malformed");
  if (reader.empty()) return {};
  const auto extensions = reader.vector(2);
  if (!reader.empty()) refuse("bytes follow the TLS ClientHello");
  return parse_extensions(extensions);
}

void check_needed(std::size_t bytes) {
  if (bytes > client_hello_limit_bytes * 2) refuse("the TLS ClientHello is in too many pieces");
}

/// The handshake message that the records at the start of `data` carry; nothing while it is incomplete, and `needed`
/// then says how far the record goes that is next.
std::optional<std::string> assemble(std::string_view data, std::size_t& needed) {
  std::string message;
  std::size_t wanted = message_header_bytes, end = 0;
  while (true) {
    needed = end + record_header_bytes;
    check_needed(needed);
    if (data.empty()) return std::nullopt;
    if (static_cast<std::uint8_t>(data[0]) != handshake_record) refuse("this is not a TLS handshake");
    if (data.size() > 1 && data[1] != 3) refuse("the TLS version is unknown");
    if (data.size() < record_header_bytes) return std::nullopt;
    const std::size_t length = static_cast<std::uint8_t>(data[3]) << 8 | static_cast<std::uint8_t>(data[4]);
    if (length == 0 || length > record_limit_bytes) refuse("the TLS record is malformed");
    needed = end += record_header_bytes + length;
    check_needed(needed);
    const auto part = data.substr(record_header_bytes, length);
    message += part;
    if (message.empty()) return std::nullopt;
    if (static_cast<std::uint8_t>(message[0]) != client_hello_message) refuse("TLS does not begin with a ClientHello");
    if (message.size() >= message_header_bytes) {
      Reader header(std::string_view(message).substr(1, 3));
      wanted = message_header_bytes + header.number(3);
      if (wanted > client_hello_limit_bytes) refuse("the TLS ClientHello is too large");
    }
    if (message.size() > wanted) refuse("bytes follow the TLS ClientHello");
    if (part.size() < length) return std::nullopt;
    if (message.size() == wanted && wanted > message_header_bytes) return message;
    data.remove_prefix(record_header_bytes + length);
  }
}

}  // namespace

bool begins_tls(std::string_view data) {
  return !data.empty() && static_cast<std::uint8_t>(data[0]) == handshake_record;
}

ClientHelloResult parse_client_hello(std::string_view data) {
  try {
    std::size_t needed = 0;
    const auto message = assemble(data, needed);
    if (!message) return {.needed = needed};
    return {.hello = parse_body(std::string_view(*message).substr(message_header_bytes))};
  } catch (const Refused& refused) {
    return {.fault = refused.reason};
  }
}

std::optional<std::string> name_conflict(const ClientHello& hello, const HostPort& target) {
  const auto wanted = normal_host(target.host).value_or("");
  if (hello.name && *hello.name != wanted)
    return fmt::format("TLS asks for {}, the connection was for {}", clean_guest_text(*hello.name), wanted);
  if (hello.encrypted) return "TLS hides whom it asks for (encrypted ClientHello); turn that off in the program";
  if (!hello.name && !looks_numeric(wanted)) return fmt::format("TLS names no server, where {} was expected", wanted);
  return std::nullopt;
}

std::string tls_refusal() {
  constexpr char unrecognized_name = 112;
  return {21, 3, 3, 0, 2, 2, unrecognized_name};
}

}  // namespace agentvm::egress
