#include "guest/agent/artifact_sender.hpp"

#include <algorithm>
#include <cerrno>
#include <limits>
#include <memory>
#include <optional>
#include <string_view>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/error.hpp"
#include "vmm/base/fd.hpp"

namespace agentvm::guest::agent {
namespace {

constexpr unsigned depth_limit = 64;
constexpr std::size_t path_limit_bytes = 4096;
constexpr std::size_t buffer_bytes = 256u << 10;
constexpr std::uint32_t hole_mark = 0xffffffffu;

bool component_matches(std::string_view glob, std::string_view text) {
  std::size_t at = 0, from = 0, star = glob.npos, star_from = 0;
  while (from < text.size()) {
    if (at < glob.size() && glob[at] == '*') {
      star = at++;
      star_from = from;
    } else if (at < glob.size() && (glob[at] == '?' || glob[at] == text[from])) {
      ++at;
      ++from;
    } else if (star != glob.npos) {
      at = star + 1;
      from = ++star_from;
    } else {
      return false;
    }
  }
  while (at < glob.size() && glob[at] == '*') ++at;
  return at == glob.size();
}

std::vector<std::string> components(const std::string& glob) {
  std::vector<std::string> parts;
  for (std::size_t start = 0; start <= glob.size();) {
    const auto end = std::min(glob.find('/', start), glob.size());
    if (end > start) parts.push_back(glob.substr(start, end - start));
    start = end + 1;
  }
  return parts;
}

class Finder {
 public:
  explicit Finder(std::size_t limit) : limit_(limit) {}

  void expand(int folder, const std::string& path, const std::vector<std::string>& parts, std::size_t at) {
    if (full() || at >= parts.size()) return;
    const bool last = at + 1 == parts.size();
    const auto& part = parts[at];
    if (part != "**" && part.find_first_of("*?") == part.npos)
      return last ? take(folder, path, part) : descend(folder, path, part, parts, at + 1);
    if (part == "**" && !last) expand(folder, path, parts, at + 1);  // no folder at all
    for (const auto& name : list(folder)) {
      if (name == ".git") continue;
      if (part == "**" && !last)
        descend(folder, path, name, parts, at);
      else if (part == "**" || component_matches(part, name))
        last ? take(folder, path, name) : descend(folder, path, name, parts, at + 1);
    }
  }

  std::map<std::string, Artifact> found;

 private:
  bool full() const { return found.size() > limit_; }

  void descend(int folder, const std::string& path, const std::string& name, const std::vector<std::string>& parts,
               std::size_t at) {
    if (std::count(path.begin(), path.end(), '/') >= static_cast<std::ptrdiff_t>(depth_limit)) return;
    const UniqueFd inner(::openat(folder, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (inner) expand(inner.get(), path + name + "/", parts, at);
  }

  void take(int folder, const std::string& path, const std::string& name) {
    struct stat status {};
    if (full() || name == ".git" || ::fstatat(folder, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) < 0) return;
    const auto whole = path + name;
    Artifact artifact;
    artifact.kind = Artifact::Kind::left_out;
    const bool deep = std::count(path.begin(), path.end(), '/') >= static_cast<std::ptrdiff_t>(depth_limit);
    if (whole.size() > path_limit_bytes) return;
    if (S_ISDIR(status.st_mode) && !deep) {
      const UniqueFd inner(::openat(folder, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
      if (inner) {
        for (const auto& below : list(inner.get())) take(inner.get(), whole + "/", below);
        return;
      }
    } else if (S_ISREG(status.st_mode)) {
      artifact.kind = Artifact::Kind::file;
      artifact.executable = status.st_mode & S_IXUSR;
      artifact.size = static_cast<std::uint64_t>(status.st_size);
      artifact.mtime_ns = std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
    } else if (S_ISLNK(status.st_mode)) {
      char target[path_limit_bytes];
      const auto size = ::readlinkat(folder, name.c_str(), target, sizeof target);
      if (size > 0 && size < static_cast<ssize_t>(sizeof target)) {
        artifact.kind = Artifact::Kind::link;
        artifact.target.assign(target, static_cast<std::size_t>(size));
      }
    }
    found[whole] = std::move(artifact);
  }

  static std::vector<std::string> list(int folder) {
    struct Close {
      void operator()(DIR* open) const { ::closedir(open); }
    };
    std::vector<std::string> names;
    const std::unique_ptr<DIR, Close> open(::fdopendir(::fcntl(folder, F_DUPFD_CLOEXEC, 0)));
    if (!open) return names;
    ::rewinddir(open.get());  // the position is shared with the descriptor that was listed before
    while (const dirent* entry = ::readdir(open.get()))
      if (const std::string_view name = entry->d_name; name != "." && name != "..") names.emplace_back(name);
    return names;
  }

  const std::size_t limit_;
};

/// Little-endian numbers and bytes, written in large pieces.
class Out {
 public:
  explicit Out(int fd) : fd_(fd) {}
  template <class T>
  void number(T value) {
    for (std::size_t i = 0; i < sizeof value; ++i)
      buffer_ += static_cast<char>(static_cast<std::uint64_t>(value) >> (8 * i) & 0xff);
    if (buffer_.size() >= buffer_bytes) flush();
  }
  void bytes(std::string_view text) {
    buffer_ += text;
    if (buffer_.size() >= buffer_bytes) flush();
  }
  void text(std::string_view text) {
    number(static_cast<std::uint16_t>(text.size()));
    bytes(text);
  }
  void flush() {
    write_all(fd_, buffer_, Deadline::never());
    buffer_.clear();
  }

 private:
  const int fd_;
  std::string buffer_;
};

void list_to(Out& out, const std::map<std::string, Artifact>& all) {
  out.bytes("AVMART1\n");
  for (const auto& [path, artifact] : all) {
    switch (artifact.kind) {
      case Artifact::Kind::file:
        out.bytes("F");
        out.number(static_cast<std::uint8_t>(artifact.executable));
        out.number(artifact.size);
        out.number(artifact.mtime_ns);
        out.text(path);
        break;
      case Artifact::Kind::link:
        out.bytes("L");
        out.text(path);
        out.text(artifact.target);
        break;
      case Artifact::Kind::left_out:
        out.bytes("X");
        out.text(path);
        break;
    }
  }
  out.bytes("E");
  out.flush();
}

std::uint32_t read_number(int in) {
  unsigned char bytes[4];
  for (std::size_t have = 0; have < sizeof bytes;) {
    const auto count = read_some(in, bytes + have, sizeof bytes - have, Deadline::never());
    if (count == 0) throw Error(ErrorCode::operation_failed, "the host went away");
    have += count;
  }
  return static_cast<std::uint32_t>(bytes[0] | bytes[1] << 8 | bytes[2] << 16) | std::uint32_t{bytes[3]} << 24;
}

/// The content of one file, holes as holes, exactly `size` bytes of it. False when it is not what was listed any more.
class Content {
 public:
  Content(Out& out, int fd, std::uint64_t size) : out_(out), fd_(fd), size_(size), buffer_(buffer_bytes, '\0') {}

  bool send() {
    while (at_ < size_) {
      const auto data = seek(SEEK_DATA);
      if (data > at_) hole(data - at_);
      at_ = data;
      const auto end = at_ < size_ ? seek(SEEK_HOLE) : size_;
      while (at_ < end)
        if (!piece(end)) return false;
    }
    flush_hole();
    struct stat status {};
    return ::fstat(fd_, &status) == 0 && static_cast<std::uint64_t>(status.st_size) == size_;
  }

 private:
  std::uint64_t seek(int what) const {
    const auto found = ::lseek(fd_, static_cast<off_t>(at_), what);
    if (found < 0) return errno == ENXIO || what == SEEK_HOLE ? size_ : at_;  // no holes here that anybody knows of
    return std::min(size_, static_cast<std::uint64_t>(found));
  }

  bool piece(std::uint64_t end) {
    const auto count =
        ::pread(fd_, buffer_.data(), std::min<std::uint64_t>(buffer_.size(), end - at_), static_cast<off_t>(at_));
    if (count <= 0) return false;
    const std::string_view bytes(buffer_.data(), static_cast<std::size_t>(count));
    at_ += bytes.size();
    if (bytes.find_first_not_of('\0') == bytes.npos) {
      hole(bytes.size());
      return true;
    }
    flush_hole();
    out_.number(static_cast<std::uint32_t>(bytes.size()));
    out_.bytes(bytes);
    return true;
  }

  void hole(std::uint64_t size) { hole_ += size; }
  void flush_hole() {
    if (hole_ == 0) return;
    out_.number(hole_mark);
    out_.number(std::exchange(hole_, 0));
  }

  Out& out_;
  const int fd_;
  const std::uint64_t size_;
  std::uint64_t at_ = 0, hole_ = 0;
  std::string buffer_;
};

}  // namespace

std::map<std::string, Artifact> find_artifacts(const std::filesystem::path& root, const std::vector<std::string>& globs,
                                               std::size_t limit) {
  const UniqueFd folder(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder) throw_errno(root.string());
  Finder finder(limit);
  for (const auto& glob : globs) finder.expand(folder.get(), "", components(glob), 0);
  return std::move(finder.found);
}

void send_artifacts(const std::filesystem::path& root, const std::vector<std::string>& globs, std::size_t limit, int in,
                    int output) {
  const auto all = find_artifacts(root, globs, limit);
  Out out(output);
  list_to(out, all);
  std::vector<const std::pair<const std::string, Artifact>*> files;
  for (const auto& entry : all)
    if (entry.second.kind == Artifact::Kind::file) files.push_back(&entry);
  while (const auto count = read_number(in)) {
    if (count > files.size()) throw Error(ErrorCode::operation_failed, "the host asks for more than was listed");
    std::vector<std::uint32_t> wanted(count);
    for (auto& index : wanted) index = read_number(in);
    for (const auto index : wanted) {
      if (index >= files.size()) throw Error(ErrorCode::operation_failed, "the host asks for what was not listed");
      const auto& [path, artifact] = *files[index];
      out.bytes("D");
      out.number(index);
      const UniqueFd file(::open((root / path).c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
      const bool whole = file && Content(out, file.get(), artifact.size).send();
      out.number(std::uint32_t{0});
      out.number(static_cast<std::uint8_t>(whole ? 0 : 1));
    }
    out.bytes("Z");
    out.flush();
  }
}

}  // namespace agentvm::guest::agent
