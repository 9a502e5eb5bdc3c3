#pragma once
#include <filesystem>
#include <string>
#include <string_view>

namespace agentvm {
/// 64 lower-case hex digits.
std::string sha256_hex(std::string_view data);
std::string sha256_file(const std::filesystem::path& path);
}  // namespace agentvm
