#pragma once
// Where words go: results to standard output, talk to standard error, colour and moving lines only on a terminal.

#include <mutex>
#include <string>
#include <string_view>

#include "vmm/base/json.hpp"
#include "vmm/base/progress.hpp"

namespace agentvm::cli {

enum class Tone { plain, good, warning, bad, dim, strong };

/// What a stream can show. Decided once from the terminal, TERM and NO_COLOR.
struct Style {
  bool colour = false;
  /// `text` in that tone's colour, or as it is.
  std::string paint(Tone tone, std::string_view text) const;
};

class Output {
 public:
  enum class Format { text, json };
  explicit Output(Format format);
  ~Output();
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  bool json() const { return format_ == Format::json; }
  const Style& out_style() const { return out_style_; }
  bool out_is_terminal() const { return out_terminal_; }
  /// Columns of standard output's terminal; 0 off a terminal (never cut then).
  unsigned width() const;

  /// To standard output, as it is. Throws `operation_failed` when it cannot be written (a full disk must not look like
  /// success).
  void print(std::string_view text);
  /// One JSON document and a newline on standard output.
  void print_json(const Json& document);

  /// To standard error, with the prefix "agentvm: ".
  void say(std::string_view text);
  void warn(std::string_view text);
  /// Message and hint on standard error; with `--json` also the error object on standard output. `exit_code` is what we
  /// end with.
  void fail(const Error& error, int exit_code, std::string_view origin = {});

  /// On a terminal one line that is rewritten; else a line per step.
  void progress(const ProgressEvent& event);
  /// Removes the moving line, so that something else can use the terminal.
  void clear_progress();
  void quiet(bool on) { quiet_ = on; }

 private:
  void line(std::string_view text);
  const Format format_;
  bool out_terminal_, err_terminal_, moving_;
  Style out_style_, err_style_;
  bool quiet_ = false;
  bool line_shown_ = false;
  std::string last_step_, last_text_;
};

}  // namespace agentvm::cli
