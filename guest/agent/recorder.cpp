#include "guest/agent/recorder.hpp"

#include <algorithm>
#include <charconv>
#include <ctime>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/protocol/recording.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/json.hpp"

namespace agentvm::guest::agent {
namespace {

constexpr std::size_t piece_bytes = 64u << 10;  // in JSON six times that, at worst
constexpr std::int64_t size_pause_ms = 250, day_ms = 86'400'000;
constexpr milliseconds lock_patience{5'000};

std::int64_t clock_ms() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return std::int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

std::vector<std::string> segments(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code absent;
  for (const auto& entry : fs::directory_iterator(folder, absent)) {
    const auto name = entry.path().filename().string();
    if (is_recording_name(name)) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::int64_t begin_of(const std::string& name) {
  std::int64_t value = 0;
  std::from_chars(name.data(), name.data() + recording_name_digits, value);
  return value;
}

/// How many bytes at the end of `bytes` begin a character of UTF-8 whose other bytes are still to come.
std::size_t unfinished(std::string_view bytes) {
  for (std::size_t back = 1; back <= std::min<std::size_t>(bytes.size(), 3); ++back) {
    const auto byte = static_cast<unsigned char>(bytes[bytes.size() - back]);
    if ((byte & 0xc0) == 0x80) continue;
    const std::size_t length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return length > back ? back : 0;
  }
  return 0;
}

/// Asked by its path each time: a descriptor kept open would keep the terminal from ending.
bool ask_size(const std::string& terminal, winsize& size) {
  const UniqueFd fd(::open(terminal.c_str(), O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
  return fd && ::ioctl(fd.get(), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0;
}

bool lock(int fd, Deadline deadline) {
  while (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (deadline.expired()) return false;
    ::usleep(50'000);
  }
  return true;
}

}  // namespace

Recorder::Recorder(fs::path folder) : folder_(std::move(folder)) {
  fs::create_directories(folder_);
  // After a clock that was set back, too, names follow one another.
  if (const auto names = segments(folder_); !names.empty()) last_ms_ = begin_of(names.back());
}

void Recorder::begin_segment(std::int64_t now_ms) {
  remove_old(now_ms);
  if (last_ms_ > now_ms + day_ms) last_ms_ = 0;
  begun_ms_ = last_ms_ = std::max(now_ms, last_ms_ + 1);
  const auto path = folder_ / fmt::format("{:016}{}", begun_ms_, recording_name_end);
  file_.reset();
  size_ = 0;
  file_ = open_file(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW);
  const auto header =
      dump_json({{"version", 2}, {"width", columns_}, {"height", rows_}, {"timestamp", begun_ms_ / 1000}}) + "\n";
  write_all(file_.get(), header, Deadline::never());
  size_ = header.size();
}

/// Makes room for one more. What is of another day's future, by a clock that was wrong, would stay the newest for ever.
void Recorder::remove_old(std::int64_t now_ms) {
  auto names = segments(folder_);
  std::error_code ignored;
  for (; !names.empty() && begin_of(names.back()) > now_ms + day_ms; names.pop_back())
    fs::remove(folder_ / names.back(), ignored);
  for (std::size_t i = 0; i + recording_segments <= names.size(); ++i) fs::remove(folder_ / names[i], ignored);
}

void Recorder::write(std::int64_t now_ms, const char* kind, std::string_view data) {
  try {
    if (!file_ || size_ >= recording_segment_bytes) {
      begin_segment(now_ms);
      // A player of this segment alone has to know it, and a reader of all of them, that it may have changed.
      if (std::string_view(kind) != "r") write(now_ms, "r", fmt::format("{}x{}", columns_, rows_));
    }
    last_ms_ = std::max(now_ms, last_ms_);
    const auto line =
        dump_json(Json::array({static_cast<double>(last_ms_ - begun_ms_) / 1000, kind, std::string(data)})) + "\n";
    write_all(file_.get(), line, Deadline::never());
    size_ += line.size();
  } catch (const std::exception&) {
    file_.reset();  // a line that is cut stands at the end of its segment
  }
}

void Recorder::resize(unsigned columns, unsigned rows, std::int64_t now_ms) {
  if (columns == columns_ && rows == rows_) return;
  columns_ = columns;
  rows_ = rows;
  write(now_ms, "r", fmt::format("{}x{}", columns, rows));
}

void Recorder::print(std::string_view bytes, std::int64_t now_ms) {
  rest_ += bytes;
  while (rest_.size() > 3 || unfinished(rest_) < rest_.size()) {
    auto piece = std::string_view(rest_).substr(0, piece_bytes);
    piece.remove_suffix(unfinished(piece));
    if (piece.empty()) break;
    write(now_ms, "o", piece);
    rest_.erase(0, piece.size());
  }
}

int record_terminal(const fs::path& folder, const std::string& terminal, int in) {
  Recorder recorder(folder);
  const auto held = open_file(folder / "lock", O_RDWR | O_CREAT | O_NOFOLLOW);
  if (!lock(held.get(), Deadline::after(lock_patience))) return 1;
  std::vector<char> buffer(piece_bytes);
  std::int64_t asked_ms = 0;
  for (;;) {
    const auto count = read_some(in, buffer.data(), buffer.size(), Deadline::never());
    if (count == 0) return 0;
    const auto now = clock_ms();
    if (winsize size{}; now - asked_ms >= size_pause_ms || now < asked_ms) {
      asked_ms = now;
      if (ask_size(terminal, size)) recorder.resize(size.ws_col, size.ws_row, now);
    }
    recorder.print({buffer.data(), count}, now);
  }
}

void send_recording(const fs::path& folder, const std::string& name, std::uint64_t offset, std::size_t limit, int out) {
  for (const auto& segment : segments(folder)) {
    if (segment < name || limit == 0) continue;
    const UniqueFd file(::open((folder / segment).c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    struct stat status {};
    if (!file || ::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) continue;
    const auto from = segment == name ? offset : 0;
    const auto size = static_cast<std::uint64_t>(status.st_size);
    if (size <= from) continue;
    std::string bytes(std::min<std::uint64_t>(size - from, limit), '\0');
    const ssize_t count = ::pread(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(from));
    if (count <= 0) continue;
    bytes.resize(static_cast<std::size_t>(count));
    write_all(out, fmt::format("{} {} {}\n{}", segment, from, bytes.size(), bytes), Deadline::never());
    limit -= bytes.size();
  }
}

}  // namespace agentvm::guest::agent
