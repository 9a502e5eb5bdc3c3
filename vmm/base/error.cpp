#include "vmm/base/error.hpp"

#include <cerrno>
#include <system_error>

#include <fmt/format.h>

namespace agentvm {
namespace {
struct CodeRow {
  ErrorCode code;
  int exit;
  std::string_view name;
};
constexpr CodeRow code_rows[] = {
    {ErrorCode::not_found, 1, "not-found"},
    {ErrorCode::wrong_state, 2, "wrong-state"},
    {ErrorCode::operation_failed, 3, "operation-failed"},
    {ErrorCode::host_lacks, 4, "host-lacks"},
    {ErrorCode::cancelled, 5, "cancelled"},
    {ErrorCode::decision_needed, 6, "decision-needed"},
    {ErrorCode::timed_out, 7, "timed-out"},
    {ErrorCode::usage, 64, "usage"},
};
}  // namespace

int exit_code(ErrorCode code) {
  for (const auto& row : code_rows)
    if (row.code == code) return row.exit;
  return 3;
}

std::string_view to_string(ErrorCode code) {
  for (const auto& row : code_rows)
    if (row.code == code) return row.name;
  return "operation-failed";
}

ErrorCode error_code_from(std::string_view text) {
  for (const auto& row : code_rows)
    if (row.name == text) return row.code;
  return ErrorCode::operation_failed;
}

Error::Error(ErrorCode code, std::string message, std::string hint)
    : code_(code), message_(std::move(message)), hint_(std::move(hint)) {
  rebuild();
}

Error& Error::while_doing(std::string what) {
  context_.insert(context_.begin(), std::move(what));
  rebuild();
  return *this;
}

Error& Error::with_hint(std::string hint) {
  hint_ = std::move(hint);
  return *this;
}

void Error::rebuild() {
  text_.clear();
  for (const auto& part : context_) text_ += part + ": ";
  text_ += message_;
}

std::string errno_text(int error_number) {
  return std::generic_category().message(error_number);
}

void throw_errno(std::string_view what, int error_number) {
  if (error_number < 0) error_number = errno;
  const bool lacks = error_number == ENOSPC || error_number == EDQUOT || error_number == ENOMEM;
  throw Error(lacks ? ErrorCode::host_lacks : ErrorCode::operation_failed,
              fmt::format("{}: {}", what, errno_text(error_number)), error_number == ENOSPC ? "df -h" : "");
}

int check_errno(int result, std::string_view what) {
  if (result < 0) throw_errno(what);
  return result;
}

}  // namespace agentvm
