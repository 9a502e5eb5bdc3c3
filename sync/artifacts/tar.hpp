#pragma once
// A tar archive as GNU tar writes one, read strictly: every byte is hostile. Numbers are bounded, memory is one buffer
// and two names. What GNU tar would not write ends it: nothing is repaired. Pure but for the source.

#include <cstdint>
#include <string>
#include <string_view>

#include "sync/artifacts/stream.hpp"

namespace agentvm::sync {

struct TarEntry {
  enum class Kind {
    file,
    link,  ///< symbolic
    same,  ///< a second name of a file that came before (a hard link): `target`
    folder,
    special  ///< a device or a pipe
  } kind = Kind::file;
  std::string path;    ///< relative, without empty, '.' and '..' components; any bytes but NUL
  std::string target;  ///< of a link: as it is; of `same`: as `path`
  std::uint64_t size = 0;
  bool executable = false;
};

class TarSink {
 public:
  virtual ~TarSink() = default;
  virtual void entry(const TarEntry& entry) = 0;
  /// Content of the file that was announced last, `size` bytes in all; then `end`.
  virtual void bytes(std::string_view bytes) = 0;
  virtual void end() = 0;
};

/// Up to and including the archive's end mark; what stands behind it is not read. The top folder itself is no entry.
/// Throws `operation_failed` for what is no such archive, and beyond the limits (`bytes`: of all contents).
void read_tar(ByteSource& source, const ArtifactLimits& limits, TarSink& sink);

}  // namespace agentvm::sync
