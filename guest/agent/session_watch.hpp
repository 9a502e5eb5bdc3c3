#pragma once
// The programs of the terminal sessions that agentvm began: whether each works, waits or has ended. Each writes a note,
// a file of `session_notes_folder` named like its session; whether it works is told by its terminal, which all of them
// draw to while they do, and by what the program or its terminal says of itself (a second file, with `said_suffix`).
// Asked again and again, it costs four small files per session; nothing is run.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "vmm/base/json.hpp"

namespace agentvm::guest::agent {

/// "running PID" or "ended CODE".
struct SessionNote {
  std::optional<unsigned> process;  ///< while it runs
  int code = 0;                     ///< 0 to 255
  bool operator==(const SessionNote&) const = default;
};
/// Pure; nothing for what is no note.
std::optional<SessionNote> parse_session_note(std::string_view text);

/// The terminal that a process has, from its /proc/PID/stat: the number N of /dev/pts/N. Pure; nothing when it has
/// none.
std::optional<unsigned> parse_terminal(std::string_view stat);

/// Behind a note's name: the file that says what its program says.
inline constexpr const char* said_suffix = ".said";

/// What a program said last of itself, by a hook of its own or by its terminal's bell.
enum class Said {
  nothing,
  waits,  ///< "waiting": it stands until the program says otherwise, or ends
  bell    ///< it stands until the program goes on drawing
};
/// Pure; what is none of the words says nothing.
Said parse_said(std::string_view text);

class SessionWatch {
 public:
  /// `root`: where run/, proc/ and dev/ are.
  explicit SessionWatch(std::filesystem::path root) : root_(std::move(root)) {}
  /// Looks. Never throws for what a program of the guest does. `now`: the guest's clock, seconds since 1970.
  void update(std::int64_t now);
  /// Differs whenever `sessions` does.
  const std::string& token() const { return token_; }
  /// [{name, state, code}], by name; `state`: "working", "waiting", "ended" (with its code) or "gone".
  const Json& sessions() const { return sessions_; }

 private:
  Json look(const std::string& name, std::int64_t now) const;
  std::filesystem::path root_;
  std::string token_;
  Json sessions_ = Json::array();
};

}  // namespace agentvm::guest::agent
