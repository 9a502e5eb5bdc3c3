#include "cli/client/output.hpp"

#include <cstdlib>

#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/client/signals.hpp"
#include "vmm/base/fd.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::cli {
namespace {

bool may_colour(bool terminal) {
  const char* no_colour = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  return terminal && !(no_colour && *no_colour) && term && std::string_view(term) != "dumb";
}

unsigned columns_of(int fd) {
  winsize size{};
  return ::ioctl(fd, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

/// `text` cut to `columns` code points: good enough for a line that is rewritten anyway.
std::string cut(std::string_view text, std::size_t columns) {
  std::string result;
  std::size_t count = 0;
  for (const char c : text) {
    const bool starts = (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    if (starts && ++count > columns) break;
    result += c;
  }
  return result;
}

void write_error(std::string_view text) {
  try {
    write_all(STDERR_FILENO, text, Deadline::never());
  } catch (const Error&) {
    // Nobody reads our talk: nothing to do about it, and the work itself goes on.
  }
}

}  // namespace

std::string Style::paint(Tone tone, std::string_view text) const {
  if (!colour || tone == Tone::plain) return std::string(text);
  const char* code = "";
  switch (tone) {
    case Tone::plain:
      break;
    case Tone::good:
      code = "32";
      break;
    case Tone::warning:
      code = "33";
      break;
    case Tone::bad:
      code = "31";
      break;
    case Tone::dim:
      code = "2";
      break;
    case Tone::strong:
      code = "1";
      break;
  }
  return fmt::format("\x1b[{}m{}\x1b[0m", code, text);
}

Output::Output(Format format)
    : format_(format), out_terminal_(::isatty(STDOUT_FILENO) == 1), err_terminal_(::isatty(STDERR_FILENO) == 1) {
  const char* term = std::getenv("TERM");
  moving_ = err_terminal_ && term && std::string_view(term) != "dumb";
  out_style_.colour = may_colour(out_terminal_);
  err_style_.colour = may_colour(err_terminal_);
}

Output::~Output() {
  clear_progress();
}

unsigned Output::width() const {
  return out_terminal_ ? columns_of(STDOUT_FILENO) : 0;
}

void Output::print(std::string_view text) {
  clear_progress();
  try {
    write_all(STDOUT_FILENO, text, Deadline::never());
  } catch (Error& error) {
    pollfd entry{STDOUT_FILENO, POLLOUT, 0};
    if (::poll(&entry, 1, 0) > 0 && (entry.revents & POLLERR)) end_by_sigpipe();  // `agentvm help | head`
    error.while_doing("writing to standard output");
    throw;
  }
}

void Output::print_json(const Json& document) {
  print(document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

void Output::line(std::string_view text) {
  clear_progress();
  write_error(fmt::format("agentvm: {}\n", text));
}

void Output::say(std::string_view text) {
  if (!quiet_) line(text);
}

void Output::warn(std::string_view text) {
  line(fmt::format("{} {}", err_style_.paint(Tone::warning, "warning:"), text));
}

void Output::fail(const Error& error, int exit_code, std::string_view origin) {
  line(fmt::format("{} {}", err_style_.paint(Tone::bad, "error:"),
                   clean_guest_text(error.what(), Newlines::keep, 16384)));
  if (!error.hint().empty()) write_error(fmt::format("  try: {}\n", clean_guest_text(error.hint())));
  if (!json()) return;
  Json document{{"schema", "agentvm.error/1"},
                {"code", to_string(error.code())},
                {"message", error.what()},
                {"hint", error.hint()},
                {"exit_code", exit_code}};
  if (!origin.empty()) document["origin"] = origin;
  try {
    print_json(document);
  } catch (const Error&) {
    // Standard output may be what failed; it has been said on standard error.
  }
}

void Output::progress(const ProgressEvent& event) {
  if (quiet_) return;
  const auto text = clean_guest_text(event.text.empty() ? event.step : event.text);
  if (!moving_) {
    if (event.step == last_step_ && text == last_text_) return;  // a percentage alone is no news in a log
    last_step_ = event.step;
    last_text_ = text;
    return line(text);
  }
  const auto percent = event.percent >= 0 ? fmt::format(" {}%", event.percent) : "";
  const auto columns = columns_of(STDERR_FILENO);
  write_error(fmt::format("\r\x1b[K{}", cut(text + percent, columns > 1 ? columns - 1 : 79)));
  line_shown_ = true;
}

void Output::clear_progress() {
  if (std::exchange(line_shown_, false)) write_error("\r\x1b[K");
}

}  // namespace agentvm::cli
