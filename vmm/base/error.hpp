#pragma once
// The one error type of the host side. Context is added on the way up, text is made once at the edge.

#include <exception>
#include <string>
#include <string_view>
#include <vector>

namespace agentvm {

/// What a caller can decide on. Each value has one exit code (see `exit_code`).
enum class ErrorCode {
  not_found,         ///< exit 1: no such sandbox, image, worktree, or not a git repository
  wrong_state,       ///< exit 2: already running, not running
  operation_failed,  ///< exit 3
  host_lacks,        ///< exit 4: accelerator, memory, disk, program
  cancelled,         ///< exit 5: by the user
  decision_needed,   ///< exit 6: gated, conflict, diverged, dirty, not trusted
  timed_out,         ///< exit 7
  usage,             ///< exit 64
};

int exit_code(ErrorCode code);
/// The value's name in kebab-case, as it stands in `--json` errors.
std::string_view to_string(ErrorCode code);
/// The inverse of `to_string`; unknown text is `operation_failed`.
ErrorCode error_code_from(std::string_view text);

class Error : public std::exception {
 public:
  /// `message` names its subject and the reason; `hint` is a command (or empty) that helps.
  Error(ErrorCode code, std::string message, std::string hint = {});

  ErrorCode code() const { return code_; }
  const std::string& message() const { return message_; }
  const std::string& hint() const { return hint_; }
  /// Outermost first: what was being done when it happened.
  const std::vector<std::string>& context() const { return context_; }

  Error& while_doing(std::string what);
  Error& with_hint(std::string hint);
  /// "context: context: message", without the hint.
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  void rebuild();
  ErrorCode code_;
  std::string message_, hint_, text_;
  std::vector<std::string> context_;
};

/// Throws `operation_failed` (ENOSPC, EDQUOT, ENOMEM: `host_lacks`) with `what` and the text of `error_number`
/// (default: errno).
[[noreturn]] void throw_errno(std::string_view what, int error_number = -1);
/// `result` unless it is negative; then `throw_errno(what)`.
int check_errno(int result, std::string_view what);
/// The system's text for an errno value; thread-safe.
std::string errno_text(int error_number);

}  // namespace agentvm
