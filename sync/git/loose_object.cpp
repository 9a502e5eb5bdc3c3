#include "sync/git/loose_object.hpp"

#include <charconv>
#include <memory>

#include <zlib.h>

#include "vmm/base/digest.hpp"
#include "vmm/base/error.hpp"

namespace agentvm::git {
namespace {

using Type = LooseObject::Type;
constexpr std::pair<std::string_view, Type> type_names[] = {
    {"commit ", Type::commit}, {"tree ", Type::tree}, {"blob ", Type::blob}, {"tag ", Type::tag}};
constexpr std::size_t header_limit_bytes = 32;  ///< git's own
constexpr std::size_t chunk_bytes = 64u << 10;

[[noreturn]] void refuse(const char* problem) {
  throw Error(ErrorCode::operation_failed, std::string("a loose object of the sandbox ") + problem);
}

std::string inflated(std::string_view file, std::uint64_t limit_bytes) {
  z_stream stream{};
  if (::inflateInit(&stream) != Z_OK) throw std::bad_alloc();
  const std::unique_ptr<z_stream, decltype([](z_stream* open) { ::inflateEnd(open); })> end(&stream);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(file.data()));
  stream.avail_in = static_cast<uInt>(file.size());
  std::string text, chunk(chunk_bytes, '\0');
  for (int result = Z_OK; result != Z_STREAM_END;) {
    if (text.size() > limit_bytes + header_limit_bytes) refuse("is too large");
    stream.next_out = reinterpret_cast<Bytef*>(chunk.data());
    stream.avail_out = chunk_bytes;
    result = ::inflate(&stream, Z_NO_FLUSH);
    text.append(chunk, 0, chunk_bytes - stream.avail_out);
    if (result != Z_OK && result != Z_STREAM_END) refuse("cannot be unpacked");
  }
  if (stream.avail_in != 0) refuse("goes on behind its end");
  return text;
}

void append_size(std::string& pack, Type type, std::uint64_t size) {
  auto byte = static_cast<unsigned>(type) << 4 | static_cast<unsigned>(size & 15);
  for (size >>= 4; size > 0; size >>= 7) {
    pack += static_cast<char>(byte | 0x80);
    byte = static_cast<unsigned>(size & 0x7F);
  }
  pack += static_cast<char>(byte);
}

}  // namespace

LooseObject read_loose(std::string_view file, std::uint64_t limit_bytes) {
  auto text = inflated(file, limit_bytes);
  const auto end = std::string_view(text).substr(0, header_limit_bytes).find('\0');
  if (end == std::string_view::npos) refuse("has no header");
  for (const auto& [name, type] : type_names) {
    if (!text.starts_with(name)) continue;
    std::uint64_t size = 0;
    const auto* last = text.data() + end;
    const auto [stop, problem] = std::from_chars(text.data() + name.size(), last, size);
    if (problem != std::errc() || stop != last || size != text.size() - end - 1) refuse("is not as long as it says");
    if (size > limit_bytes) refuse("is too large");
    text.erase(0, end + 1);
    return {type, std::move(text)};
  }
  refuse("is of no known type");
}

std::string pack_of(const std::vector<LooseObject>& objects) {
  std::string pack("PACK\0\0\0\2", 8);
  for (int shift = 24; shift >= 0; shift -= 8) pack += static_cast<char>(objects.size() >> shift & 0xFF);
  for (const auto& object : objects) {
    append_size(pack, object.type, object.content.size());
    const auto before = pack.size();
    auto size = ::compressBound(object.content.size());
    pack.resize(before + size);
    if (::compress2(reinterpret_cast<Bytef*>(pack.data() + before), &size,
                    reinterpret_cast<const Bytef*>(object.content.data()), object.content.size(), Z_BEST_SPEED) != Z_OK)
      throw std::bad_alloc();
    pack.resize(before + size);
  }
  return pack + sha1_bytes(pack);
}

}  // namespace agentvm::git
