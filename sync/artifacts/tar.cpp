#include "sync/artifacts/tar.hpp"

#include <algorithm>
#include <array>
#include <vector>

#include <fmt/format.h>

#include "vmm/base/error.hpp"

namespace agentvm::sync {
namespace {

constexpr std::size_t block_bytes = 512;
constexpr std::size_t name_limit_bytes = 4096;  // PATH_MAX: a file system has no longer ones
constexpr std::size_t buffer_bytes = 64u << 10;

[[noreturn]] void refuse_archive(const std::string& why) {
  throw Error(ErrorCode::operation_failed, "the archive from the disk is damaged: " + why);
}

/// Where the fields of a header stand.
class Header {
 public:
  explicit Header(ByteSource& source) { source.read(block_.data(), block_.size()); }

  bool is_end() const {
    return std::all_of(block_.begin(), block_.end(), [](unsigned char c) { return c == 0; });
  }
  void check() const {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < block_.size(); ++i) sum += i >= 148 && i < 156 ? ' ' : block_[i];
    if (number(148, 8) != sum) refuse_archive("a header has another sum than it says");
    if (text(257, 5) != "ustar") refuse_archive("a header is of another format");
  }
  char kind() const { return block_[156] == 0 ? '0' : static_cast<char>(block_[156]); }
  std::string name() const { return text(0, 100); }
  std::string target() const { return text(157, 100); }
  bool executable() const { return (number(100, 8) & 0100) != 0; }
  std::uint64_t size() const { return number(124, 12); }

 private:
  std::string text(std::size_t at, std::size_t size) const {
    const auto* first = block_.data() + at;
    return std::string(first, std::find(first, first + size, 0));
  }
  /// Octal digits, or the binary form of large numbers.
  std::uint64_t number(std::size_t at, std::size_t size) const {
    std::uint64_t value = 0;
    if (block_[at] & 0x80) {
      for (std::size_t i = 0; i < size; ++i) {
        const unsigned byte = i == 0 ? block_[at] & 0x7f : block_[at + i];
        if (value >> 55) refuse_archive("a number is out of range");
        value = value << 8 | byte;
      }
      return value;
    }
    std::size_t i = 0;
    while (i < size && block_[at + i] == ' ') ++i;
    for (; i < size && block_[at + i] >= '0' && block_[at + i] <= '7'; ++i) value = value << 3 | (block_[at + i] - '0');
    if (i < size && block_[at + i] != 0 && block_[at + i] != ' ') refuse_archive("a number is none");
    return value;
  }

  std::array<unsigned char, block_bytes> block_{};
};

/// "./a/b/" as "a/b"; "" for the top folder.
std::string checked_path(std::string path) {
  while (path.starts_with("./")) path.erase(0, 2);
  while (!path.empty() && path.back() == '/') path.pop_back();
  if (path.empty() || path == ".") return "";
  for (std::size_t start = 0; start <= path.size();) {
    const auto end = std::min(path.find('/', start), path.size());
    const auto part = std::string_view(path).substr(start, end - start);
    if (part.empty() || part == "." || part == "..") refuse_archive("a name leads out of its folder");
    start = end + 1;
  }
  return path;
}

class TarReader {
 public:
  TarReader(ByteSource& source, const ArtifactLimits& limits, TarSink& sink)
      : source_(source), limits_(limits), sink_(sink), buffer_(buffer_bytes) {}

  void run() {
    for (;;) {
      const Header header(source_);
      if (header.is_end()) {
        if (!long_name_.empty() || !long_target_.empty()) refuse_archive("it ends within an entry");
        return;
      }
      header.check();
      if (header.kind() == 'L' || header.kind() == 'K')
        take_long(header);
      else
        take_entry(header);
    }
  }

 private:
  /// The name (or target) of the entry that comes next, where it has more than 100 bytes.
  void take_long(const Header& header) {
    auto& into = header.kind() == 'L' ? long_name_ : long_target_;
    const auto size = header.size();
    if (!into.empty() || size < 2 || size > name_limit_bytes + 1) refuse_archive("a name is too long");
    count();
    std::string text(size, '\0');
    source_.read(text.data(), text.size());
    skip_padding(size);
    if (text.back() != '\0') refuse_archive("a name has no end");
    text.pop_back();
    if (text.find('\0') != text.npos) refuse_archive("a name has two ends");
    into = std::move(text);
  }

  void take_entry(const Header& header) {
    count();
    TarEntry entry;
    entry.kind = kind_of(header.kind());
    const auto name = long_name_.empty() ? header.name() : std::exchange(long_name_, {});
    entry.target = long_target_.empty() ? header.target() : std::exchange(long_target_, {});
    if (name.empty() || name.size() > name_limit_bytes) refuse_archive("an entry has no name");
    entry.path = checked_path(name);
    entry.executable = header.executable();
    entry.size = header.size();
    if (entry.kind != TarEntry::Kind::file && entry.size != 0) refuse_archive("something that is no file has content");
    if (entry.path.empty()) {
      if (entry.kind != TarEntry::Kind::folder) refuse_archive("the folder is none");
      return;
    }
    if (entry.kind == TarEntry::Kind::same) {
      entry.target = checked_path(std::move(entry.target));
      if (entry.target.empty()) refuse_archive("a second name has no first");
    }
    if (entry.kind == TarEntry::Kind::link && entry.target.empty()) refuse_archive("a link leads nowhere");
    if (entry.size > limits_.bytes - bytes_)
      throw Error(ErrorCode::operation_failed,
                  fmt::format("the workspace on the disk holds more than {} MiB", limits_.bytes >> 20));
    bytes_ += entry.size;
    sink_.entry(entry);
    if (entry.kind == TarEntry::Kind::file) take_content(entry.size);
  }

  void take_content(std::uint64_t size) {
    for (auto left = size; left > 0;) {
      const auto part = static_cast<std::size_t>(std::min<std::uint64_t>(left, buffer_.size()));
      source_.read(buffer_.data(), part);
      sink_.bytes({buffer_.data(), part});
      left -= part;
    }
    skip_padding(size);
    sink_.end();
  }

  static TarEntry::Kind kind_of(char kind) {
    switch (kind) {
      case '0':
        return TarEntry::Kind::file;
      case '1':
        return TarEntry::Kind::same;
      case '2':
        return TarEntry::Kind::link;
      case '5':
        return TarEntry::Kind::folder;
      case '3':
      case '4':
      case '6':
        return TarEntry::Kind::special;
      default:
        refuse_archive("an entry is of an unknown kind");
    }
  }

  void count() {
    if (++entries_ > limits_.files)
      throw Error(ErrorCode::operation_failed,
                  fmt::format("the workspace on the disk has more than {} files and folders", limits_.files));
  }

  void skip_padding(std::uint64_t size) {
    std::array<char, block_bytes> rest{};
    source_.read(rest.data(), (block_bytes - size % block_bytes) % block_bytes);
  }

  ByteSource& source_;
  const ArtifactLimits limits_;
  TarSink& sink_;
  std::vector<char> buffer_;
  std::string long_name_, long_target_;
  std::uint64_t bytes_ = 0, entries_ = 0;
};

}  // namespace

void read_tar(ByteSource& source, const ArtifactLimits& limits, TarSink& sink) {
  TarReader(source, limits, sink).run();
}

}  // namespace agentvm::sync
