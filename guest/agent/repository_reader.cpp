#include "guest/agent/repository_reader.hpp"

#include <algorithm>
#include <memory>
#include <string_view>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/agent/repository_folder.hpp"
#include "guest/protocol/objects.hpp"
#include "vmm/base/base64.hpp"
#include "vmm/base/error.hpp"

namespace agentvm::guest::agent {
namespace {

constexpr std::size_t reference_file_limit_bytes = 4u << 10, packed_limit_bytes = 1u << 20;
constexpr std::string_view symbolic = "ref: ", branches = "refs/heads/", tags = "refs/tags/";

/// Something is not as it must be for files to tell all.
struct Decline {};

/// Nothing where there is no such regular file, or a larger one.
std::optional<std::string> read_regular(int folder, const std::string& name, std::size_t limit_bytes) {
  const UniqueFd file(::openat(folder, name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  struct stat status {};
  if (!file || ::fstat(file.get(), &status) < 0 || !S_ISREG(status.st_mode) || status.st_size < 0 ||
      static_cast<std::size_t>(status.st_size) > limit_bytes)
    return std::nullopt;
  std::string text(static_cast<std::size_t>(status.st_size) + 1, '\0');
  std::size_t size = 0;
  ssize_t count = 0;
  while (size < text.size() && (count = ::read(file.get(), text.data() + size, text.size() - size)) > 0)
    size += static_cast<std::size_t>(count);
  if (count < 0 || size == text.size()) return std::nullopt;  // it grows
  text.resize(size);
  return text;
}

bool exists(int folder, const char* name) {
  return ::faccessat(folder, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

class References {
 public:
  explicit References(int git) : git_(git) {}

  Json read() {
    // A reference that moves into packed-refs meanwhile is in one of both.
    for (const char* below : {"heads", "tags"}) {
      const auto refs = open_folder(git_, "refs");
      if (!refs) throw Decline();
      walk(refs.get(), below, std::string("refs/") + below, 0);
    }
    read_packed();
    const auto head = read_regular(git_, "HEAD", reference_file_limit_bytes);
    if (!head) throw Decline();
    return {{"whole", true}, {"head", head_of(*head)}, {"refs", std::move(refs_)}};
  }

 private:
  void walk(int parent, const std::string& name, const std::string& path, unsigned depth) {
    const auto folder = open_folder(parent, name);
    if (!folder) {
      if (errno == ENOENT) return;
      throw Decline();
    }
    if (depth > reference_depth_limit) throw Decline();
    const std::unique_ptr<DIR, decltype([](DIR* open) { ::closedir(open); })> list(
        ::fdopendir(::fcntl(folder.get(), F_DUPFD_CLOEXEC, 0)));
    if (!list) throw Decline();
    while (const dirent* entry = ::readdir(list.get())) {
      const std::string found = entry->d_name;
      if (found == "." || found == ".." || found.ends_with(".lock")) continue;
      if (++looked_at_ > 4 * reference_limit) throw Decline();
      struct stat status {};
      if (::fstatat(folder.get(), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0) continue;  // gone meanwhile
      if (S_ISDIR(status.st_mode))
        walk(folder.get(), found, path + "/" + found, depth + 1);
      else
        add(path + "/" + found, read_regular(folder.get(), found, reference_file_limit_bytes).value_or(""));
    }
  }

  void add(const std::string& name, std::string_view text) {
    if (text.ends_with('\n')) text.remove_suffix(1);
    // A symbolic reference (a branch that is another's name) is git's to tell.
    if (!is_object_id(text) || !is_plain_reference(name) || refs_.size() >= reference_limit) throw Decline();
    refs_.emplace(name, text);
  }

  void read_packed() {
    if (!exists(git_, "packed-refs")) return;
    const auto text = read_regular(git_, "packed-refs", packed_limit_bytes);
    if (!text) throw Decline();
    for (std::string_view rest = *text; !rest.empty();) {
      const auto end = std::min(rest.find('\n'), rest.size());
      const auto line = rest.substr(0, end);
      rest.remove_prefix(std::min(end + 1, rest.size()));
      if (line.empty() || line.starts_with('#') || line.starts_with('^')) continue;
      if (line.size() <= object_id_length || line[object_id_length] != ' ') throw Decline();
      const std::string name(line.substr(object_id_length + 1));
      const bool told = name.starts_with(branches) || name.starts_with(tags);
      if (told && !refs_.contains(name)) add(name, line.substr(0, object_id_length));
    }
  }

  static std::string head_of(std::string_view text) {
    if (text.ends_with('\n')) text.remove_suffix(1);
    if (is_object_id(text)) return "";
    if (!text.starts_with(symbolic)) throw Decline();
    text.remove_prefix(symbolic.size());
    if (!text.starts_with(branches) || !is_plain_reference(text)) throw Decline();
    return std::string(text);
  }

  const int git_;
  Json refs_ = Json::object();
  std::size_t looked_at_ = 0;
};

}  // namespace

UniqueFd RepositoryReader::git_folder() const {
  const auto root = open_folder(AT_FDCWD, repository_.string());
  if (!root) throw Decline();
  auto git = open_folder(root.get(), ".git");
  // References kept elsewhere than in files; history that ends before its beginning.
  for (const char* other : {"reftable", "shallow"})
    if (git && exists(git.get(), other)) throw Decline();
  if (!git) throw Decline();
  return git;
}

Json RepositoryReader::references() const {
  try {
    return References(git_folder().get()).read();
  } catch (const Decline&) {
    return {{"whole", false}};
  }
}

Json RepositoryReader::objects(const std::vector<std::string>& ids) const {
  if (ids.size() > object_request_limit) throw Error(ErrorCode::usage, "too many objects are asked for at once");
  Json found = Json::object();
  try {
    const auto git = git_folder();
    const auto all = open_folder(git.get(), "objects");
    std::size_t left = object_answer_limit_bytes;
    for (const auto& id : ids) {
      if (!is_object_id(id)) throw Error(ErrorCode::usage, "that is no object id");
      const auto folder = all ? open_folder(all.get(), id.substr(0, 2)) : UniqueFd();
      auto bytes = folder ? read_regular(folder.get(), id.substr(2), left) : std::nullopt;
      if (!bytes) continue;
      left -= bytes->size();
      found[id] = base64_encode(*bytes);
    }
  } catch (const Decline&) {
  }
  return {{"objects", std::move(found)}};
}

}  // namespace agentvm::guest::agent
