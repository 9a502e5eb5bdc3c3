#include "sync/artifacts/stream.hpp"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "sync/gate.hpp"
#include "sync/git/lookalikes.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::sync {
namespace {

constexpr std::string_view magic = "AVMART1\n";
constexpr std::uint32_t hole_mark = 0xffffffffu;
constexpr std::size_t path_limit_bytes = 4096, component_limit_bytes = 255, glob_limit_bytes = 512;
constexpr std::size_t piece_bytes = 256u << 10;
constexpr std::ptrdiff_t depth_limit = 128;

[[noreturn]] void refuse(const std::string& what) {
  throw Error(ErrorCode::operation_failed, "what the sandbox sends is no list of build products: " + what);
}

class Reader {
 public:
  explicit Reader(ByteSource& source) : source_(source) {}
  template <class T>
  T number() {
    unsigned char bytes[sizeof(T)];
    source_.read(bytes, sizeof bytes);
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < sizeof bytes; ++i) value |= std::uint64_t{bytes[i]} << (8 * i);
    return static_cast<T>(value);
  }
  std::string text(std::size_t limit) {
    std::string text(number<std::uint16_t>(), '\0');
    if (text.empty() || text.size() > limit) refuse(fmt::format("a name of {} bytes", text.size()));
    source_.read(text.data(), text.size());
    return text;
  }

 private:
  ByteSource& source_;
};

template <class Test>
bool any_component(std::string_view path, Test test) {
  for (std::size_t start = 0; start <= path.size();) {
    const auto end = std::min(path.find('/', start), path.size());
    if (test(path.substr(start, end - start))) return true;
    start = end + 1;
  }
  return false;
}

/// What our own sender never says.
void check_form(std::string_view path, const std::vector<std::string>& globs) {
  const auto shown = [&] { return clean_guest_text(path, Newlines::escape, 200); };
  const bool odd = path.find('\0') != path.npos || std::count(path.begin(), path.end(), '/') > depth_limit ||
                   any_component(path, [](std::string_view part) {
                     return part.empty() || part == "." || part == ".." || part.size() > component_limit_bytes;
                   });
  if (odd) refuse(fmt::format("the path '{}'", shown()));
  const bool asked =
      std::any_of(globs.begin(), globs.end(), [&](const std::string& glob) { return path_matches("/" + glob, path); });
  if (!asked) refuse(fmt::format("'{}', which nobody asked for", shown()));
}

/// Why a name, sound as it is, stays out of the host's trees.
std::optional<std::string> name_problem(std::string_view path) {
  if (any_component(path, [](std::string_view part) { return git::is_dotgit(part); }))
    return "some file system takes a part of it for .git";
  if (clean_guest_text(path, Newlines::escape, 8 * path.size()) != path || path.find('\t') != path.npos)
    return "its name is no plain UTF-8 text";
  return std::nullopt;
}

class ListingReader {
 public:
  ListingReader(ByteSource& source, const std::vector<std::string>& globs, const ArtifactLimits& limits)
      : source_(source), reader_(source), globs_(globs), limits_(limits) {}

  Listing read() {
    char head[magic.size()];
    source_.read(head, sizeof head);
    if (std::string_view(head, sizeof head) != magic) refuse("it begins otherwise");
    for (;;) {
      const char type = static_cast<char>(reader_.number<std::uint8_t>());
      if (type == 'E') return std::move(listing_);
      if (++entries_ > limits_.files)
        throw Error(ErrorCode::operation_failed,
                    fmt::format("there are more than {} build products (artifacts.limits.files)", limits_.files));
      if (type == 'F')
        file();
      else if (type == 'L')
        link();
      else if (type == 'X')
        listing_.left_out.push_back({path(), "it is neither a file nor a link"});
      else
        refuse(fmt::format("an entry of type {}", static_cast<unsigned char>(type)));
    }
  }

 private:
  std::string path() {
    auto text = reader_.text(path_limit_bytes);
    if (!last_.empty() && text <= last_) refuse("it is not in order");
    check_form(text, globs_);
    last_ = text;
    return text;
  }

  void file() {
    ListedFile file;
    const auto executable = reader_.number<std::uint8_t>();
    if (executable > 1) refuse("a mode that is none");
    file.executable = executable == 1;
    file.size = reader_.number<std::uint64_t>();
    file.mtime_ns = reader_.number<std::int64_t>();
    file.path = path();
    if (file.size > limits_.bytes - bytes_)
      throw Error(
          ErrorCode::operation_failed,
          fmt::format("the build products are larger than {} bytes together (artifacts.limits.bytes)", limits_.bytes));
    bytes_ += file.size;
    if (const auto problem = name_problem(file.path)) {
      listing_.places.push_back(Listing::none);
      listing_.left_out.push_back({std::move(file.path), *problem});
      return;
    }
    listing_.places.push_back(static_cast<std::uint32_t>(listing_.files.size()));
    listing_.files.push_back(std::move(file));
  }

  void link() {
    ListedLink link{path(), reader_.text(path_limit_bytes)};
    auto problem = name_problem(link.path);
    if (!problem && !link_stays_inside(link.path, link.target)) problem = "the link leads out of the tree";
    if (!problem && any_component(link.target, [](std::string_view part) { return git::is_dotgit(part); }))
      problem = "the link leads into .git";
    if (problem)
      listing_.left_out.push_back({std::move(link.path), *problem});
    else
      listing_.links.push_back(std::move(link));
  }

  ByteSource& source_;
  Reader reader_;
  const std::vector<std::string>& globs_;
  const ArtifactLimits& limits_;
  Listing listing_;
  std::string last_;
  std::uint64_t entries_ = 0, bytes_ = 0;
};

}  // namespace

Listing read_listing(ByteSource& source, const std::vector<std::string>& globs, const ArtifactLimits& limits) {
  return ListingReader(source, globs, limits).read();
}

void read_contents(ByteSource& source, const Listing& listing, const std::vector<std::uint32_t>& wanted,
                   ContentSink& sink) {
  Reader reader(source);
  std::string buffer(piece_bytes, '\0');
  for (const auto index : wanted) {
    const auto& file = listing.files.at(listing.places.at(index));
    if (reader.number<std::uint8_t>() != 'D' || reader.number<std::uint32_t>() != index)
      refuse("a file that was not asked for");
    sink.begin(file);
    std::uint64_t left = file.size;
    const auto spend = [&](std::uint64_t size) {
      if (size > left) refuse("more bytes than a file was listed with");
      left -= size;
    };
    for (;;) {
      const auto size = reader.number<std::uint32_t>();
      if (size == 0) break;
      if (size == hole_mark) {
        const auto hole = reader.number<std::uint64_t>();
        spend(hole);
        sink.hole(hole);
        continue;
      }
      spend(size);
      for (std::uint32_t at = 0; at < size;) {
        const auto part = std::min<std::size_t>(buffer.size(), size - at);
        source.read(buffer.data(), part);
        sink.bytes({buffer.data(), part});
        at += static_cast<std::uint32_t>(part);
      }
    }
    const auto changed = reader.number<std::uint8_t>();
    if (changed > 1) refuse("a file's end that is none");
    sink.end(changed == 0 && left == 0);
  }
  if (reader.number<std::uint8_t>() != 'Z') refuse("it goes on beyond its end");
}

std::string wanted_bytes(const std::vector<std::uint32_t>& wanted) {
  std::string bytes;
  const auto add = [&](std::uint32_t value) {
    for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(value >> shift & 0xff);
  };
  add(static_cast<std::uint32_t>(wanted.size()));
  for (const auto index : wanted) add(index);
  return bytes;
}

std::string artifact_glob(std::string_view text) {
  const auto given = text;
  while (text.starts_with("./")) text.remove_prefix(2);
  while (text.ends_with('/')) text.remove_suffix(1);
  const bool odd = text.empty() || text.size() > glob_limit_bytes || text.find('\0') != text.npos ||
                   any_component(text, [](std::string_view part) {
                     return part.empty() || part == "." || part == ".." || git::is_dotgit(part);
                   });
  if (odd)
    throw Error(ErrorCode::usage,
                fmt::format("'{}' is not a path below the workspace, such as dist or packages/*/dist",
                            clean_guest_text(given, Newlines::escape, 100)),
                "agentvm help sync");
  return std::string(text);
}

}  // namespace agentvm::sync
