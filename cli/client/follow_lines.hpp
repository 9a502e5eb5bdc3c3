#pragma once
// A file that grows, line by line, over rotation and truncation.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace agentvm::cli {

/// Calls `show` with whole lines (line ends included) of what is added to the file behind `position`, until a signal
/// ends it. The file need not exist yet.
void follow_lines(const std::string& path, std::uint64_t position,
                  const std::function<void(std::string_view lines)>& show);

}  // namespace agentvm::cli
