#pragma once
// What a guest could send of its build products, put together byte by byte, and a source that is a string.

#include <cstring>

#include "sync/artifacts/stream.hpp"
#include "vmm/base/error.hpp"

namespace agentvm::test {

class ArtifactBytes {
 public:
  ArtifactBytes& raw(std::string_view bytes) {
    bytes_ += bytes;
    return *this;
  }
  ArtifactBytes& number(std::uint64_t value, int size) {
    for (int i = 0; i < size; ++i) bytes_ += static_cast<char>(value >> (8 * i) & 0xff);
    return *this;
  }
  ArtifactBytes& text(std::string_view text) { return number(text.size(), 2).raw(text); }
  ArtifactBytes& head() { return raw("AVMART1\n"); }
  ArtifactBytes& file(std::string_view path, std::uint64_t size = 0, std::uint64_t mtime_ns = 1, int executable = 0) {
    return raw("F").number(static_cast<std::uint64_t>(executable), 1).number(size, 8).number(mtime_ns, 8).text(path);
  }
  ArtifactBytes& link(std::string_view path, std::string_view target) { return raw("L").text(path).text(target); }
  ArtifactBytes& special(std::string_view path) { return raw("X").text(path); }
  ArtifactBytes& end() { return raw("E"); }
  ArtifactBytes& begin(std::uint32_t index) { return raw("D").number(index, 4); }
  ArtifactBytes& piece(std::string_view bytes) { return number(bytes.size(), 4).raw(bytes); }
  ArtifactBytes& hole(std::uint64_t size) { return number(0xffffffffu, 4).number(size, 8); }
  ArtifactBytes& done(int changed = 0) { return number(0, 4).number(static_cast<std::uint64_t>(changed), 1); }
  ArtifactBytes& last() { return raw("Z"); }
  const std::string& str() const { return bytes_; }

 private:
  std::string bytes_;
};

class StringSource final : public sync::ByteSource {
 public:
  explicit StringSource(std::string_view bytes) : bytes_(bytes) {}
  void read(void* into, std::size_t size) override {
    if (size > bytes_.size()) throw Error(ErrorCode::operation_failed, "the stream ended");
    std::memcpy(into, bytes_.data(), size);
    bytes_.remove_prefix(size);
  }
  std::size_t left() const { return bytes_.size(); }

 private:
  std::string_view bytes_;
};

}  // namespace agentvm::test
