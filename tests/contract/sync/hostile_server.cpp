#include "tests/contract/sync/hostile_server.hpp"

#include <openssl/evp.h>

#include "vmm/base/error.hpp"

namespace agentvm::test {
namespace {

std::string sha1(const std::string& data) {
  unsigned char digest[20];
  unsigned size = sizeof digest;
  ::EVP_Digest(data.data(), data.size(), digest, &size, ::EVP_sha1(), nullptr);
  return {reinterpret_cast<char*>(digest), sizeof digest};
}

std::string big_endian(std::uint32_t value) {
  std::string text;
  for (int shift = 24; shift >= 0; shift -= 8) text += static_cast<char>(value >> shift & 0xFF);
  return text;
}

/// A zlib stream of stored blocks.
std::string stored(const std::string& data) {
  std::string text = "\x78\x01";
  std::size_t done = 0;
  do {
    const auto count = std::min<std::size_t>(data.size() - done, 65535);
    text += done + count == data.size() ? '\1' : '\0';
    for (const auto value : {count, ~count}) {
      text += static_cast<char>(value & 0xFF);
      text += static_cast<char>(value >> 8 & 0xFF);
    }
    text.append(data, done, count);
    done += count;
  } while (done < data.size());
  std::uint32_t a = 1, b = 0;
  for (const unsigned char byte : data) {
    a = (a + byte) % 65521;
    b = (b + a) % 65521;
  }
  return text + big_endian(b << 16 | a);
}

Deadline patience() {
  return Deadline::after(std::chrono::seconds(30));
}

}  // namespace

std::string pkt_line(const std::string& payload) {
  return fmt::format("{:04x}{}", payload.size() + 4, payload);
}

std::string advertisement(const std::vector<RefLine>& refs, const std::string& capabilities) {
  std::string text;
  for (const auto& [id, name] : refs)
    text += pkt_line(id + " " + name + (text.empty() ? std::string(1, '\0') + capabilities : "") + "\n");
  return text + "0000";
}

std::string band(int number, const std::string& data) {
  std::string text;
  for (std::size_t start = 0; start < data.size(); start += 65000)
    text += pkt_line(std::string(1, static_cast<char>(number)) + data.substr(start, 65000));
  return text;
}

FakeStreams::Program serve(const std::string& greeting, const std::string& after_done,
                           const std::function<void(int)>& and_then) {
  return [=](const guest::ExecSpec&, int io, int) {
    write_all(io, greeting, patience());
    std::string input;
    bool wanted = false;
    for (char buffer[4096];;) {
      while (input.size() >= 4) {
        const auto length = std::stoul(input.substr(0, 4), nullptr, 16);
        if (length > input.size()) break;
        const auto line = length ? input.substr(4, length - 4) : "";
        input.erase(0, length ? length : 4);
        if (length == 0 && std::exchange(wanted, true)) write_all(io, pkt_line("NAK\n"), patience());
        if (line != "done\n") continue;
        write_all(io, pkt_line("NAK\n") + after_done, patience());
        if (and_then) and_then(io);
        return 0;
      }
      const auto count = read_some(io, buffer, sizeof buffer, patience());
      if (count == 0) return 0;
      input.append(buffer, count);
    }
  };
}

FakeStreams::Program endless(const std::string& head, const std::string& chunk) {
  return [=](const guest::ExecSpec&, int io, int) {
    write_all(io, head, patience());
    for (;;) write_all(io, chunk, patience());
    return 0;
  };
}

std::string make_pack(const std::vector<std::string>& entries, long long announced) {
  std::string pack =
      "PACK" + big_endian(2) +
      big_endian(static_cast<std::uint32_t>(announced < 0 ? static_cast<long long>(entries.size()) : announced));
  for (const auto& entry : entries) pack += entry;
  return pack + sha1(pack);
}

std::string pack_entry(PackType type, const std::string& data, const std::string& base, long long size) {
  auto rest = static_cast<unsigned long long>(size < 0 ? static_cast<long long>(data.size()) : size);
  std::string entry(1, static_cast<char>(static_cast<int>(type) << 4 | static_cast<int>(rest & 15)));
  for (rest >>= 4; rest; rest >>= 7) {
    entry.back() = static_cast<char>(entry.back() | 0x80);
    entry += static_cast<char>(rest & 0x7F);
  }
  return entry + base + stored(data);
}

std::string object_id(const std::string& type, const std::string& data) {
  return sha1(type + " " + std::to_string(data.size()) + std::string(1, '\0') + data);
}

std::string to_hex(const std::string& raw) {
  std::string text;
  for (const unsigned char byte : raw) text += fmt::format("{:02x}", byte);
  return text;
}

std::string from_hex(const std::string& hex) {
  std::string raw;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    raw += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return raw;
}

}  // namespace agentvm::test
