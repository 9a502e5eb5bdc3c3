#include "cli/manager/ops/recording_files.hpp"

#include <algorithm>
#include <charconv>
#include <vector>

#include <fcntl.h>

#include "guest/protocol/recording.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::manager {
namespace {

constexpr std::uint64_t segment_limit_bytes = guest::recording_segment_bytes + guest::recording_line_limit_bytes;
constexpr std::int64_t day_ms = 86'400'000;

struct Piece {
  std::string name;
  std::uint64_t offset = 0;
  std::string_view bytes;
};

[[noreturn]] void refuse(const char* what) {
  throw Error(ErrorCode::operation_failed, std::string("the guest sent a recording with ") + what);
}

template <class Number>
Number whole_number(std::string_view text) {
  Number value{};
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || rest != text.data() + text.size()) refuse("a number that is none");
  return value;
}

/// Takes the first piece off `answer`.
Piece take_piece(std::string_view& answer) {
  constexpr std::size_t longest_line = 128;
  const auto end = answer.substr(0, longest_line).find('\n');
  if (end == answer.npos) refuse("no line before its bytes");
  const auto line = answer.substr(0, end);
  const auto first = line.find(' '), second = line.rfind(' ');
  if (first == line.npos || first == second) refuse("a line that is none of ours");
  Piece piece{
      std::string(line.substr(0, first)), whole_number<std::uint64_t>(line.substr(first + 1, second - first - 1)), {}};
  const auto length = whole_number<std::size_t>(line.substr(second + 1));
  answer.remove_prefix(end + 1);
  if (!guest::is_recording_name(piece.name)) refuse("a name that is none");
  if (length > answer.size()) refuse("fewer bytes than it says");
  piece.bytes = answer.substr(0, length);
  answer.remove_prefix(length);
  return piece;
}

std::vector<std::string> segments(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code absent;
  for (const auto& entry : fs::directory_iterator(folder, absent)) {
    const auto name = entry.path().filename().string();
    if (guest::is_recording_name(name)) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

void remove_old(const fs::path& folder) {
  const auto names = segments(folder);
  std::error_code ignored;
  for (std::size_t i = 0; i + guest::recording_segments < names.size(); ++i) fs::remove(folder / names[i], ignored);
}

}  // namespace

RecordingEnd recording_end(const fs::path& folder) {
  const auto names = segments(folder);
  if (names.empty()) return {};
  std::error_code gone;
  const auto size = fs::file_size(folder / names.back(), gone);
  return {names.back(), gone ? 0 : size};
}

bool add_to_recording(const fs::path& folder, std::string_view answer, std::int64_t now_ms) {
  ensure_private_dir(folder);
  auto end = recording_end(folder);
  bool added = false;
  while (!answer.empty()) {
    const auto piece = take_piece(answer);
    const auto begun = whole_number<std::int64_t>(std::string_view(piece.name).substr(0, guest::recording_name_digits));
    if (begun > now_ms + day_ms) continue;
    if (piece.name < end.segment) refuse("a segment that is older than what is here");
    if (piece.name != end.segment) end = {piece.name, 0};
    if (piece.offset != end.size_bytes) refuse("a gap");
    if (piece.bytes.size() > segment_limit_bytes - std::min(segment_limit_bytes, end.size_bytes))
      refuse("a segment that is too large");
    if (piece.bytes.empty()) continue;
    const auto file = open_file(folder / piece.name, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW);
    write_all(file.get(), piece.bytes, Deadline::never());
    end.size_bytes += piece.bytes.size();
    added = true;
    remove_old(folder);
  }
  return added;
}

}  // namespace agentvm::manager
