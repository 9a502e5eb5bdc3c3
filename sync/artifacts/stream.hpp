#pragma once
// What a guest sends of its build products, read strictly: every byte is hostile. Memory follows the bytes that came,
// never a number that was claimed, and ends at the limits. Pure but for the source.
//
//   guest   "AVMART1\n"
//           'F' executable:u8 size:u64 mtime_ns:i64 path        one for each file,
//           'L' path target                                     each symbolic link,
//           'X' path                                            each thing that is neither, by ascending path
//           'E'
//   host    count:u32, then that many indices:u32 of files, ascending; 0 is the end
//   guest   for each: 'D' index:u32, pieces, 0:u32, whole:u8 (0: yes, 1: it changed meanwhile)
//           a piece is length:u32 and that many bytes, or 0xffffffff:u32 length:u64, a hole
//           'Z', and the host may ask again
//
// Numbers are little-endian; path and target are length:u16 and bytes.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace agentvm::sync {

struct ListedFile {
  std::string path;  ///< relative, without empty, '.' and '..' components, UTF-8 without control characters
  std::uint64_t size = 0;
  std::int64_t mtime_ns = 0;
  bool executable = false;
};
struct ListedLink {
  std::string path, target;
};
struct LeftOut {
  std::string path;  ///< the guest's bytes: clean before showing
  std::string reason;
};

struct ArtifactLimits {
  std::uint64_t bytes = 8ULL << 30;  ///< of all listed files together, holes included
  std::uint64_t files = 200'000;     ///< entries of any kind
};

struct Listing {
  std::vector<ListedFile> files;
  std::vector<ListedLink> links;
  std::vector<LeftOut> left_out;
  /// What each index of the stream became in `files`; `none` for one that was left out.
  std::vector<std::uint32_t> places;
  static constexpr std::uint32_t none = 0xffffffffu;
};

/// Where bytes come from.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  /// Exactly `size` bytes; throws when they do not come.
  virtual void read(void* into, std::size_t size) = 0;
};

/// Throws `operation_failed` for what is no listing, what lies outside of `globs`, and beyond the limits. A name that
/// must not enter a tree of the host (a look-alike of .git, control characters, a link that leads out) is left out,
/// with its reason.
Listing read_listing(ByteSource& source, const std::vector<std::string>& globs, const ArtifactLimits& limits);

/// Gets the contents, file by file.
class ContentSink {
 public:
  virtual ~ContentSink() = default;
  virtual void begin(const ListedFile& file) = 0;
  virtual void bytes(std::string_view bytes) = 0;
  virtual void hole(std::uint64_t size) = 0;
  /// `whole`: exactly as many bytes came as were listed, and the guest says that they belong together.
  virtual void end(bool whole) = 0;
};

/// `wanted`: indices of the stream, ascending, none of them left out. Throws `operation_failed` for anything but their
/// contents: another file, more bytes than were listed.
void read_contents(ByteSource& source, const Listing& listing, const std::vector<std::uint32_t>& wanted,
                   ContentSink& sink);

/// What the host answers; it ends with an empty one.
std::string wanted_bytes(const std::vector<std::uint32_t>& wanted);

/// A glob as it is asked for: a relative path without empty, '.' and '..' components, 1 to 512 bytes; "./" before it
/// and "/" behind it are dropped. Throws `usage`.
std::string artifact_glob(std::string_view text);

}  // namespace agentvm::sync
