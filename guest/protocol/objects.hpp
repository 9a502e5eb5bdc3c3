#pragma once
// What a host reads of the repository in /workspace without running git there: its references, and loose objects, each
// as it lies in its file. Enough for a few commits; for anything else the agent declines, and git is asked.

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace agentvm::guest {

/// Branches and tags in one answer. Where there are more, none are told.
inline constexpr std::size_t reference_limit = 1'500;
inline constexpr std::size_t reference_name_limit_bytes = 255;
inline constexpr std::size_t object_id_length = 40;
inline bool is_object_id(std::string_view text) {
  return text.size() == object_id_length && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}
/// A name that JSON and a terminal take as it is; others are git's to tell. Whether git would take it is judged by
/// whoever uses it.
inline bool is_plain_reference(std::string_view name) {
  return name.size() <= reference_name_limit_bytes &&
         std::all_of(name.begin(), name.end(), [](char c) { return c > 0x20 && c < 0x7F; });
}
/// Objects asked for at once.
inline constexpr std::size_t object_request_limit = 256;
/// Of all files in one answer: as base64 they fill two thirds of a frame. A larger object is never sent.
inline constexpr std::size_t object_answer_limit_bytes = 128u << 10;

}  // namespace agentvm::guest
