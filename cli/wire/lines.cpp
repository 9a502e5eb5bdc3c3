#include "cli/wire/lines.hpp"

#include "vmm/base/error.hpp"

namespace agentvm::wire {

std::optional<std::string> LineBuffer::next() {
  const auto end = buffer_.find('\n', scanned_);
  const auto length = (end == std::string::npos ? buffer_.size() : end) - start_;
  if (length >= limit_bytes_)
    throw Error(ErrorCode::operation_failed,
                "a line on the manager's socket is longer than " + std::to_string(limit_bytes_) + " bytes");
  if (end == std::string::npos) {
    scanned_ = buffer_.size();
    return std::nullopt;
  }
  auto line = buffer_.substr(start_, length);
  start_ = scanned_ = end + 1;
  // Moving the rest forward for each line would be quadratic when many short lines arrive at once.
  if (start_ == buffer_.size() || start_ > limit_bytes_) {
    buffer_.erase(0, start_);
    start_ = scanned_ = 0;
  }
  if (line.find('\0') != std::string::npos)
    throw Error(ErrorCode::operation_failed, "a line on the manager's socket holds a NUL byte");
  return line;
}

}  // namespace agentvm::wire
