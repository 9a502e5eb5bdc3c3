#include "guest/agent/session_watch.hpp"

#include <algorithm>
#include <charconv>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/agent/token.hpp"
#include "guest/protocol/frame.hpp"
#include "vmm/base/fd.hpp"

namespace agentvm::guest::agent {
namespace {

namespace fs = std::filesystem;

/// The kernel keeps a terminal's times to 8 seconds, so that nobody learns of single keystrokes (tty_update_time in
/// drivers/tty/tty_io.c); a program that works draws more than once in the rest.
constexpr std::int64_t quiet_seconds = 8 + 3;
/// A terminal's time is that of the first change in each of these spans.
constexpr std::int64_t terminal_span_seconds = 8;
constexpr std::size_t text_limit_bytes = 512;

bool is_session_name(const std::string& name) {
  constexpr std::size_t longest = 128;
  return !name.empty() && name.size() <= longest &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == name.npos;
}

/// The start of a small file that the agent user may have put anything in place of; empty when it is no file.
struct SmallFile {
  std::string text;
  std::int64_t changed = 0;  ///< seconds since 1970
};

SmallFile read_small(const fs::path& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat status {};
  if (!file || ::fstat(file.get(), &status) < 0 || !S_ISREG(status.st_mode)) return {};
  char buffer[text_limit_bytes];
  const ssize_t size = ::read(file.get(), buffer, sizeof buffer);
  if (size < 0) return {};
  return {std::string(buffer, static_cast<std::size_t>(size)), static_cast<std::int64_t>(status.st_mtim.tv_sec)};
}

std::string read_start(const fs::path& path) {
  return read_small(path).text;
}

template <class Number>
std::optional<Number> whole_number(std::string_view text) {
  Number value{};
  const auto end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && rest == end ? std::optional(value) : std::nullopt;
}

}  // namespace

std::optional<SessionNote> parse_session_note(std::string_view text) {
  constexpr std::string_view running = "running ", ended = "ended ";
  text = text.substr(0, text.find('\n'));
  if (text.starts_with(running)) {
    const auto process = whole_number<unsigned>(text.substr(running.size()));
    return process ? std::optional(SessionNote{process, 0}) : std::nullopt;
  }
  if (!text.starts_with(ended)) return std::nullopt;
  const auto code = whole_number<unsigned>(text.substr(ended.size()));
  return code && *code <= 255 ? std::optional(SessionNote{std::nullopt, static_cast<int>(*code)}) : std::nullopt;
}

Said parse_said(std::string_view text) {
  text = text.substr(0, text.find('\n'));
  return text == "waiting" ? Said::waits : text == "bell" ? Said::bell : Said::nothing;
}

std::optional<unsigned> parse_terminal(std::string_view stat) {
  constexpr unsigned slave_major = 136;  // UNIX98_PTY_SLAVE_MAJOR
  // pid (name, which may hold anything) state parent group session terminal ...
  const auto close = stat.rfind(')');
  if (close == stat.npos) return std::nullopt;
  stat.remove_prefix(close + 1);
  for (int field = 0; field < 4; ++field) {
    stat.remove_prefix(std::min(stat.find_first_not_of(' '), stat.size()));
    stat.remove_prefix(std::min(stat.find(' '), stat.size()));
  }
  stat.remove_prefix(std::min(stat.find_first_not_of(' '), stat.size()));
  const auto device = whole_number<unsigned>(stat.substr(0, stat.find(' ')));
  // As new_encode_dev of the kernel writes it: 8 bits of the minor, 12 of the major, 12 of the minor.
  if (!device || ((*device >> 8) & 0xFFF) != slave_major) return std::nullopt;
  return (*device & 0xFF) | ((*device >> 12) & 0xFFF00);
}

Json SessionWatch::look(const std::string& name, std::int64_t now) const {
  const auto note = parse_session_note(read_start(root_ / session_notes_folder / name));
  if (!note) return nullptr;
  Json session{{"name", name}, {"state", "ended"}, {"code", note->code}};
  if (!note->process) return session;
  session["code"] = nullptr;
  session["state"] = "gone";
  const auto process = root_ / "proc" / std::to_string(*note->process);
  const auto terminal = parse_terminal(read_start(process / "stat"));
  struct stat status {};
  if (!terminal || ::stat((root_ / "dev/pts" / std::to_string(*terminal)).c_str(), &status) < 0) return session;
  const auto drawn = static_cast<std::int64_t>(status.st_mtim.tv_sec), passed = now - drawn;
  // A clock that was set back is no work.
  const bool draws = passed <= quiet_seconds && passed >= -quiet_seconds;
  const auto file = read_small(root_ / session_notes_folder / (name + said_suffix));
  const auto said = parse_said(file.text);
  const bool waits = said == Said::waits ||
                     (said == Said::bell && drawn / terminal_span_seconds <= file.changed / terminal_span_seconds);
  session["state"] = draws && !waits ? "working" : "waiting";
  return session;
}

void SessionWatch::update(std::int64_t now) {
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator entries(root_ / session_notes_folder, error);
  for (; !error && entries != fs::directory_iterator() && names.size() < session_limit; entries.increment(error))
    if (auto name = entries->path().filename().string(); is_session_name(name)) names.push_back(std::move(name));
  std::sort(names.begin(), names.end());
  sessions_ = Json::array();
  for (const auto& name : names)
    if (auto session = look(name, now); !session.is_null()) sessions_.push_back(std::move(session));
  token_ = token_of(sessions_);
}

}  // namespace agentvm::guest::agent
