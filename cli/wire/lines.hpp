#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace agentvm::wire {

/// Cuts a byte stream into lines. Bounded: a line longer than `limit_bytes` throws once its limit is passed, complete
/// or not.
class LineBuffer {
 public:
  explicit LineBuffer(std::size_t limit_bytes) : limit_bytes_(limit_bytes) {}
  void append(std::string_view bytes) { buffer_.append(bytes); }
  /// The next complete line without its newline. Throws `operation_failed` when it is over the limit or holds a NUL.
  std::optional<std::string> next();
  /// Bytes received but not yet taken.
  std::size_t pending_bytes() const { return buffer_.size() - start_; }

 private:
  std::size_t limit_bytes_;
  std::string buffer_;
  std::size_t start_ = 0;    // first byte not yet taken
  std::size_t scanned_ = 0;  // up to here there is no newline
};

}  // namespace agentvm::wire
