#include "guest/control/serial_log.hpp"

#include <algorithm>
#include <cerrno>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/error.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/unix_socket.hpp"

namespace agentvm::guest {
namespace {

constexpr milliseconds connect_limit{5'000};
constexpr double least_tokens = 4096;  // below that a read is not worth its system calls
constexpr std::size_t remembered_folders = 1024;

fs::path current(const fs::path& folder) {
  return folder / "serial.log";
}
fs::path previous(const fs::path& folder) {
  return folder / "serial.log.1";
}

}  // namespace

SerialFile::SerialFile(fs::path folder) : folder_(std::move(folder)) {
  open();
}

void SerialFile::open() {
  fd_ = open_file(current(folder_), O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW);
  struct stat status {};
  check_errno(::fstat(fd_.get(), &status), current(folder_).string());
  size_ = static_cast<std::size_t>(status.st_size);
}

void SerialFile::append(std::string_view bytes) {
  while (!bytes.empty()) {
    if (size_ >= serial_file_limit_bytes) {
      check_errno(::rename(current(folder_).c_str(), previous(folder_).c_str()), current(folder_).string());
      open();
    }
    const auto piece = bytes.substr(0, serial_file_limit_bytes - std::min(size_, serial_file_limit_bytes));
    write_all(fd_.get(), piece, Deadline::never());
    size_ += piece.size();
    bytes.remove_prefix(piece.size());
  }
}

std::string SerialFile::tail(const fs::path& folder, std::size_t limit_bytes) {
  auto text = read_tail(current(folder), limit_bytes);
  if (text.size() < limit_bytes) text = read_tail(previous(folder), limit_bytes - text.size()) + text;
  return text;
}

SerialLogs::SerialLogs() : wake_(check_errno(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")) {
  thread_ = std::thread([this] { run(); });
}

SerialLogs::~SerialLogs() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  poke();
  thread_.join();
}

void SerialLogs::poke() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto ignored = ::write(wake_.get(), &one, sizeof one);
}

void SerialLogs::add(const std::string& name, const fs::path& socket, const fs::path& folder) {
  auto fd = connect_unix(socket, Deadline::after(connect_limit));
  set_nonblocking(fd.get(), true);
  Source source{std::move(fd), SerialFile(folder), double{serial_rate_bytes}, std::chrono::steady_clock::now()};
  {
    const std::lock_guard lock(mutex_);
    sources_.insert_or_assign(name, std::move(source));
    if (kept_.size() >= remembered_folders)
      std::erase_if(kept_, [this](const auto& entry) { return !sources_.contains(entry.first); });
    kept_[name] = {folder};
  }
  poke();
}

void SerialLogs::remove(const std::string& name) {
  const std::lock_guard lock(mutex_);
  sources_.erase(name);
  kept_.erase(name);
  poke();
}

std::string SerialLogs::tail(const std::string& name, std::size_t limit_bytes) const {
  Kept kept;
  {
    const std::lock_guard lock(mutex_);
    const auto found = kept_.find(name);
    if (found == kept_.end()) return {};
    kept = found->second;
  }
  return SerialFile::tail(kept.folder, std::min(limit_bytes, kept.bytes));
}

void SerialLogs::run() {
  int pause = -1;
  for (;;) {
    std::vector<pollfd> entries{{wake_.get(), POLLIN, 0}};
    std::vector<std::string> names{""};
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
      for (const auto& [name, source] : sources_) {
        if (source.tokens < least_tokens) continue;
        entries.push_back({source.fd.get(), POLLIN, 0});
        names.push_back(name);
      }
    }
    ::poll(entries.data(), entries.size(), pause);
    std::uint64_t count;
    if (entries[0].revents) [[maybe_unused]]
      const auto ignored = ::read(wake_.get(), &count, sizeof count);
    std::map<std::string, short> ready;
    for (std::size_t i = 1; i < entries.size(); ++i)
      if (entries[i].revents) ready[names[i]] = entries[i].revents;
    pause = drain(ready);
  }
}

int SerialLogs::drain(const std::map<std::string, short>& ready) {
  const std::lock_guard lock(mutex_);
  const auto now = std::chrono::steady_clock::now();
  int pause = -1;
  for (auto entry = sources_.begin(); entry != sources_.end();) {
    auto& [name, source] = *entry;
    const std::chrono::duration<double> passed = now - source.refilled;
    source.refilled = now;
    source.tokens = std::min(double{serial_rate_bytes}, source.tokens + passed.count() * double{serial_rate_bytes});
    bool keep = true;
    if (ready.contains(name)) {
      char buffer[64u << 10];
      const auto wanted = std::min(sizeof buffer, static_cast<std::size_t>(std::max(source.tokens, 1.0)));
      const ssize_t count = ::read(source.fd.get(), buffer, wanted);
      if (count > 0) {
        source.tokens -= static_cast<double>(count);
        try {
          source.file.append({buffer, static_cast<std::size_t>(count)});
          kept_[name].bytes += static_cast<std::size_t>(count);
        } catch (const Error& error) {
          log::warn("serial", "{}: {}", name, error.what());  // a full disk loses console text, not the guest
        }
      }
      keep = count > 0 || (count < 0 && (errno == EAGAIN || errno == EINTR));
    }
    if (keep && source.tokens < least_tokens) pause = 20;
    entry = keep ? std::next(entry) : sources_.erase(entry);
  }
  return pause;
}

}  // namespace agentvm::guest
