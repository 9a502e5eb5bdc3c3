#include "guest/image/foreign_disk.hpp"

#include <algorithm>
#include <array>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/text.hpp"

namespace agentvm {
namespace {

constexpr std::size_t header_bytes = 64u << 10;
// Offsets, bits and types: qcow2.txt of QEMU's documentation ("Qcow2 Image File Format").
constexpr std::string_view qcow2_magic = "QFI\xfb";
constexpr std::size_t v2_header_bytes = 72, v3_header_bytes = 104;
constexpr std::uint64_t dirty_bit = 1u << 0, corrupt_bit = 1u << 1, external_data_bit = 1u << 2,
                        compression_bit = 1u << 3, extended_l2_bit = 1u << 4;
constexpr std::uint32_t end_of_extensions = 0, backing_format = 0xE2792ACA, external_data_name = 0x44415441,
                        encryption_header = 0x0537BE77, bitmaps = 0x23852875;
constexpr std::uint64_t autoclear_bitmaps_bit = 1u << 0;
constexpr unsigned smallest_cluster_bits = 9, largest_cluster_bits = 21;  // as QEMU takes them
constexpr std::uint64_t smallest_bytes = 1u << 20;

/// Others that a machine's disk may be in; the first bytes, or where it says so.
struct Magic {
  std::size_t offset;
  std::string_view bytes;
  const char* name;
  const char* remedy = "";  ///< a command that gets a disk out of the file, and opens no other
};
constexpr Magic others[] = {{0, "KDMV", "VMDK"},
                            {0, "COWD", "VMDK"},
                            {0, "# Disk DescriptorFile", "VMDK"},
                            {0x40, std::string_view("\x7f\x10\xda\xbe", 4), "VDI", "qemu-img convert -f vdi -O qcow2"},
                            {0, "vhdxfile", "VHDX", "qemu-img convert -f vhdx -O qcow2"},
                            {0, "conectix", "VHD", "qemu-img convert -f vpc -O qcow2"},
                            {0, std::string_view("QED\0", 4), "QED"},
                            {0, "WithoutFreeSpace", "Parallels"},
                            {0, "WithouFreSpacExt", "Parallels"},
                            {0, "LUKS\xba\xbe", "LUKS"},
                            {0, "OOOM", "COW"},
                            {0, "#!", "script"},
                            {0, "\x1f\x8b", "gzip", "gzip -dk"},
                            {0,
                             "\xfd"
                             "7zXZ",
                             "xz", "xz -dk"},
                            {0, "\x28\xb5\x2f\xfd", "zstd", "zstd -dk"},
                            {0, "BZh", "bzip2", "bzip2 -dk"},
                            {0x8001, "CD001", "ISO 9660"}};

class Header {
 public:
  Header(const fs::path& file, std::string bytes, std::uint64_t file_bytes)
      : file_(file), bytes_(std::move(bytes)), file_bytes_(file_bytes) {}

  ForeignDisk check() const {
    if (bytes_.starts_with(qcow2_magic)) return {ForeignDisk::Format::qcow2, qcow2()};
    for (const auto& other : others)
      if (bytes_.size() > other.offset && std::string_view(bytes_).substr(other.offset).starts_with(other.bytes))
        refuse(fmt::format("it is of the format {}; raw and qcow2 are taken", other.name), remedy(other));
    if (file_bytes_ < smallest_bytes || file_bytes_ % 512 != 0) refuse("its size is that of no disk");
    return {ForeignDisk::Format::raw, limited(file_bytes_)};
  }

 private:
  [[noreturn]] void refuse(const std::string& why, const std::string& hint = "") const {
    throw Error(ErrorCode::operation_failed, fmt::format("{} cannot be imported: {}", file_.string(), why), hint);
  }

  std::string remedy(const Magic& other) const {
    const std::string command = other.remedy;
    if (command.empty()) return "";
    return command + " " + shell_word(file_.string()) + (command.starts_with("qemu-img") ? " NEW" : "");
  }

  template <class Number>
  Number at(std::size_t offset) const {
    if (bytes_.size() < offset + sizeof(Number)) refuse("its header is cut short");
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < sizeof(Number); ++i)
      value = value << 8 | static_cast<unsigned char>(bytes_[offset + i]);
    return static_cast<Number>(value);
  }

  std::uint64_t limited(std::uint64_t bytes) const {
    if (bytes > foreign_disk_limit_bytes)
      refuse(fmt::format("it says that it has {} bytes; {} are the most", bytes, foreign_disk_limit_bytes));
    return bytes;
  }

  std::uint64_t qcow2() const {
    const auto version = at<std::uint32_t>(4);
    if (version != 2 && version != 3) refuse(fmt::format("it is qcow2 of version {}", version));
    // Each of these names something else that would be opened.
    if (at<std::uint64_t>(8) != 0 || at<std::uint32_t>(16) != 0) refuse("it has a backing file");
    const auto cluster_bits = at<std::uint32_t>(20);
    if (cluster_bits < smallest_cluster_bits || cluster_bits > largest_cluster_bits)
      refuse(fmt::format("its clusters have 2^{} bytes", cluster_bits));
    const auto size = limited(at<std::uint64_t>(24));
    if (size < smallest_bytes) refuse("its size is that of no disk");
    if (at<std::uint32_t>(32) != 0) refuse("it is encrypted");
    check_tables(size, cluster_bits, version);
    if (at<std::uint32_t>(60) != 0) refuse("it has snapshots within");
    if (version == 3)
      check_features(cluster_bits);
    else
      check_extensions(v2_header_bytes, std::size_t{1} << cluster_bits);
    return size;
  }

  void check_tables(std::uint64_t size, std::uint32_t cluster_bits, std::uint32_t version) const {
    const auto cluster = std::uint64_t{1} << cluster_bits;
    // A cluster of the second table has 8 bytes for each of the data, 16 with extended entries.
    const bool extended = version == 3 && (at<std::uint64_t>(72) & extended_l2_bit) != 0;
    const auto covered = cluster / (extended ? 16 : 8) * cluster;
    const auto entries = at<std::uint32_t>(36);
    if (entries < (size + covered - 1) / covered || entries > (foreign_disk_limit_bytes / covered) + 1024)
      refuse(fmt::format("its first table has {} entries", entries));
    for (const std::size_t offset : {40, 48}) {
      const auto table = at<std::uint64_t>(offset);
      if (table % cluster != 0 || table == 0 || table >= file_bytes_)
        refuse(fmt::format("a table is at {}, outside of it", table));
    }
    if (at<std::uint32_t>(56) > file_bytes_ / cluster) refuse("its table of reference counts is larger than it");
  }

  void check_features(std::uint32_t cluster_bits) const {
    const auto features = at<std::uint64_t>(72);
    if (features & corrupt_bit) refuse("it is marked as corrupt", "qemu-img check " + shell_word(file_.string()));
    if (features & external_data_bit) refuse("its data is in another file");
    if (features & ~(dirty_bit | compression_bit | extended_l2_bit)) refuse("it uses features that are not known");
    // Kept in memory whole, however many a header names.
    if (at<std::uint64_t>(88) & autoclear_bitmaps_bit) refuse("it has bitmaps within");
    if (at<std::uint32_t>(96) > 6) refuse("its reference counts make no sense");
    const auto length = at<std::uint32_t>(100);
    if (length < v3_header_bytes || length % 8 != 0 || length > bytes_.size()) refuse("its header makes no sense");
    check_extensions(length, std::size_t{1} << cluster_bits);
  }

  void check_extensions(std::size_t offset, std::size_t cluster) const {
    const auto end = std::min(cluster, bytes_.size());
    while (offset + 8 <= end) {
      const auto type = at<std::uint32_t>(offset), length = at<std::uint32_t>(offset + 4);
      if (type == end_of_extensions) return;
      if (type == backing_format || type == external_data_name) refuse("it names another file");
      if (type == encryption_header) refuse("it is encrypted");
      if (type == bitmaps) refuse("it has bitmaps within");
      if (length > end - offset - 8) refuse("an extension of its header is longer than that");
      offset += 8 + (length + 7) / 8 * 8;
    }
    if (offset > end || end < cluster) refuse("its header has more extensions than are looked at");
  }

  const fs::path& file_;
  const std::string bytes_;
  const std::uint64_t file_bytes_;
};

}  // namespace

const char* to_string(ForeignDisk::Format format) {
  return format == ForeignDisk::Format::qcow2 ? "qcow2" : "raw";
}

ForeignDisk check_foreign_disk(const fs::path& file) {
  const UniqueFd fd(::open(file.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  struct stat status {};
  if (!fd || ::fstat(fd.get(), &status) < 0) {
    const bool absent = errno == ENOENT;
    throw Error(absent ? ErrorCode::not_found : ErrorCode::operation_failed,
                fmt::format("{} cannot be read: {}", file.string(), errno_text(errno)));
  }
  if (!S_ISREG(status.st_mode))
    throw Error(ErrorCode::operation_failed, fmt::format("{} cannot be imported: it is no file", file.string()));
  std::string bytes(header_bytes, '\0');
  std::size_t size = 0;
  while (size < bytes.size()) {
    const auto count = ::pread(fd.get(), bytes.data() + size, bytes.size() - size, static_cast<off_t>(size));
    if (count < 0) throw_errno("reading " + file.string());
    if (count == 0) break;
    size += static_cast<std::size_t>(count);
  }
  bytes.resize(size);
  return Header(file, std::move(bytes), static_cast<std::uint64_t>(status.st_size)).check();
}

}  // namespace agentvm
