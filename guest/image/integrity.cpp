#include "guest/image/integrity.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "vmm/base/digest.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"

namespace agentvm {
namespace {

constexpr const char* sealed_files[] = {"kernel", "initrd", "root.raw"};
constexpr std::size_t block_bytes = 1u << 20;
constexpr const char* damage_note = "damaged";
constexpr std::size_t note_limit_bytes = 4096;

bool all_zero(std::string_view data) {
  return data.empty() || (data.front() == '\0' && data.substr(1) == data.substr(0, data.size() - 1));
}

std::string content_digest(const fs::path& file, Deadline deadline) {
  const auto fd = open_file(file, O_RDONLY | O_CLOEXEC);
  const auto failed = [&] { throw_errno("cannot read " + file.string()); };
  Sha256 digest;
  std::string block(block_bytes, '\0');
  for (off_t at = 0;;) {
    if (deadline.expired()) throw Error(ErrorCode::timed_out, "reading " + file.string());
    const auto data = ::lseek(fd.get(), at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;  // nothing but a hole from here on
    if (data < 0) failed();
    at = data - data % static_cast<off_t>(block_bytes);
    std::size_t filled = 0;
    while (filled < block_bytes) {
      const auto count =
          ::pread(fd.get(), block.data() + filled, block_bytes - filled, at + static_cast<off_t>(filled));
      if (count < 0) failed();
      if (count == 0) break;
      filled += static_cast<std::size_t>(count);
    }
    if (filled == 0) break;
    const auto content = std::string_view(block).substr(0, filled);
    if (!all_zero(content)) {
      digest.add(fmt::format("{} {}\n", at, filled));
      digest.add(content);
    }
    at += static_cast<off_t>(filled);
  }
  return digest.hex();
}

std::string short_name(const Image& image) {
  return image.digest.substr(0, 12);
}

}  // namespace

Json seal_files(const fs::path& folder, const Json& known) {
  Json sealed = Json::object();
  for (const auto* file : sealed_files)
    sealed[file] = known.contains(file) ? known[file]
                                        : Json{{"bytes", fs::file_size(folder / file)},
                                               {"sha256", content_digest(folder / file, Deadline::never())}};
  return sealed;
}

std::string noted_damage(const fs::path& folder) {
  auto text = read_file_if_exists(folder / damage_note, note_limit_bytes).value_or("");
  return text.substr(0, text.find('\n'));
}

void note_damage(const Image& image, const std::string& damage) {
  if (damage.empty())
    fs::remove(image.folder / damage_note);
  else
    write_file_atomic(image.folder / damage_note, damage + "\n", 0644);
}

std::string size_damage(const fs::path& folder, const Json& sealed) {
  for (const auto* file : sealed_files) {
    std::error_code absent;
    const auto bytes = fs::file_size(folder / file, absent);
    if (absent) return fmt::format("{} is missing", file);
    if (!sealed.contains(file)) continue;
    const auto built = require<std::uint64_t>(sealed[file], "bytes");
    if (bytes != built) return fmt::format("{} has {} bytes, {} were built", file, bytes, built);
  }
  return {};
}

std::string find_damage(const Image& image, Deadline deadline) {
  // What was noted once may be mended by now.
  if (!image.damage.empty() && image.damage != noted_damage(image.folder)) return image.damage;
  for (const auto& [file, sealed] : image.sealed.items()) try {
      if (content_digest(image.folder / file, deadline) != require<std::string>(sealed, "sha256"))
        return fmt::format("{} is not what was built", file);
    } catch (const Error& error) {
      if (error.code() == ErrorCode::timed_out) throw;
      return error.message();
    }
  return {};
}

void refuse_damaged(const Image& image) {
  if (image.damage.empty()) return;
  throw Error(ErrorCode::operation_failed, fmt::format("the image {} is damaged: {}", short_name(image), image.damage),
              "agentvm image remove " + short_name(image));
}

}  // namespace agentvm
