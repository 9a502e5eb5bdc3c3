#include "proxy/egress/journal.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::egress {
namespace {

constexpr std::size_t entry_limit_bytes = 8 * 1024;

using Event = JournalEntry::Event;
constexpr Event events[] = {Event::open, Event::end, Event::held, Event::whole};
constexpr Decision::Kind kinds[] = {Decision::Kind::allowed, Decision::Kind::denied, Decision::Kind::failed,
                                    Decision::Kind::malformed, Decision::Kind::asked};
constexpr Decision::Protocol protocols[] = {Decision::Protocol::http, Decision::Protocol::connect,
                                            Decision::Protocol::socks5};
constexpr Cause causes[] = {
    Cause::not_listed, Cause::other_port,  Cause::denied_by_rule, Cause::bad_name, Cause::special_address,
    Cause::other_name, Cause::placeholder, Cause::decoy,          Cause::cap,      Cause::frozen};

template <class Enum, std::size_t N>
Enum value_named(const Enum (&values)[N], std::string_view name) {
  for (const auto value : values)
    if (to_string(value) == name) return value;
  throw Error(ErrorCode::operation_failed, "unknown value in the journal");
}

std::filesystem::path rotated(const std::filesystem::path& file) {
  return file.string() + ".1";
}

}  // namespace

std::string_view to_string(JournalEntry::Event event) {
  switch (event) {
    case Event::open:
      return "open";
    case Event::end:
      return "end";
    case Event::held:
      return "held";
    case Event::whole:
      return "whole";
  }
  return "whole";
}

Json to_json(const JournalEntry& entry) {
  const auto& decision = entry.decision;
  const auto text = [](const std::string& value) { return clean_guest_text(value, Newlines::escape, 400); };
  return {{"time", format_time(decision.time)},
          {"sandbox", decision.sandbox},
          {"event", to_string(entry.event)},
          {"protocol", to_string(decision.protocol)},
          {"host", text(decision.host)},
          {"port", decision.port},
          {"verdict", to_string(decision.kind)},
          {"cause", decision.kind == Decision::Kind::denied ? to_string(decision.cause) : ""},
          {"rule", text(decision.rule)},
          {"reason", text(decision.reason)},
          {"bytes_up", decision.bytes_up},
          {"bytes_down", decision.bytes_down},
          {"requests", decision.requests},
          {"tokens", decision.tokens}};
}

std::optional<JournalEntry> journal_entry(std::string_view line) {
  if (line.empty() || line.size() > entry_limit_bytes) return std::nullopt;
  try {
    const auto json = parse_json(line, "journal");
    JournalEntry entry{.event = value_named(events, require<std::string>(json, "event"))};
    auto& decision = entry.decision;
    decision.time = parse_time(require<std::string>(json, "time"));
    decision.sandbox = require<std::string>(json, "sandbox");
    decision.protocol = value_named(protocols, require<std::string>(json, "protocol"));
    decision.host = require<std::string>(json, "host");
    decision.port = require<std::uint16_t>(json, "port");
    decision.kind = value_named(kinds, require<std::string>(json, "verdict"));
    decision.cause = Cause::allowed;
    if (decision.kind == Decision::Kind::denied)
      decision.cause = value_named(causes, require<std::string>(json, "cause"));
    decision.rule = require<std::string>(json, "rule");
    decision.reason = require<std::string>(json, "reason");
    decision.bytes_up = require<std::uint64_t>(json, "bytes_up");
    decision.bytes_down = require<std::uint64_t>(json, "bytes_down");
    decision.requests = value_or<std::uint64_t>(json, "requests", 0);
    decision.tokens = value_or<std::uint64_t>(json, "tokens", 0);
    return entry;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

std::vector<JournalEntry> read_journal(const std::filesystem::path& file) {
  constexpr std::size_t limit_bytes = 16u << 20;
  std::vector<JournalEntry> entries;
  for (const auto& path : {rotated(file), file}) {
    const auto text = read_tail(path, limit_bytes);
    for (std::string_view rest = text; !rest.empty();) {
      const auto end = std::min(rest.find('\n'), rest.size());
      if (auto entry = journal_entry(rest.substr(0, end))) entries.push_back(std::move(*entry));
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
  }
  return entries;
}

void JournalCounts::add(const JournalEntry& entry) {
  if (entry.event == Event::held) return;  // what becomes of it comes later
  if (entry.event == Event::end && entry.decision.kind == Decision::Kind::allowed) return;  // counted when it opened
  if (entry.decision.kind == Decision::Kind::allowed)
    ++allowed;
  else if (entry.decision.kind == Decision::Kind::denied)
    ++denied;
  else
    ++failed;
}

Journal::Journal(Limits limits) : limits_(limits), thread_([this] { run(); }) {}

Journal::~Journal() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Journal::add(const std::string& sandbox, const std::filesystem::path& file) {
  JournalCounts counts;
  flush();  // what an earlier life of the sandbox still has to write is counted from the file
  for (const auto& entry : read_journal(file)) counts.add(entry);
  const std::lock_guard lock(mutex_);
  auto& entry = files_[sandbox];
  entry.path = file;
  entry.counts = counts;
}

void Journal::remove(const std::string& sandbox) {
  std::unique_lock lock(mutex_);
  if (const auto found = files_.find(sandbox); found != files_.end()) {
    waiting_ -= found->second.lines;
    files_.erase(found);
    changed_.notify_all();  // whoever waits for these lines waits for nothing now
  }
  changed_.wait(lock, [&] { return !writing_; });
}

void Journal::write(JournalEntry entry) {
  const auto line = to_json(entry).dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  {
    const std::lock_guard lock(mutex_);
    const auto found = files_.find(entry.decision.sandbox);
    if (found == files_.end()) return;
    found->second.counts.add(entry);
    if (waiting_ >= limits_.queued) {
      ++dropped_;
      return;
    }
    found->second.waiting += line;
    ++found->second.lines;
    ++waiting_;
  }
  changed_.notify_all();
}

std::optional<JournalCounts> Journal::counts(const std::string& sandbox) const {
  const std::lock_guard lock(mutex_);
  const auto found = files_.find(sandbox);
  return found == files_.end() ? std::nullopt : std::optional(found->second.counts);
}

void Journal::flush() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return waiting_ == 0 && !writing_; });
}

void Journal::run() {
  ::pthread_setname_np(::pthread_self(), "egress-journal");
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stopping_ || waiting_ > 0; });
    if (waiting_ == 0) return;
    std::vector<std::pair<std::filesystem::path, std::string>> batch;
    for (auto& [sandbox, file] : files_) {
      if (file.lines == 0) continue;
      batch.emplace_back(file.path, std::exchange(file.waiting, {}));
      file.lines = 0;
    }
    const auto dropped = std::exchange(dropped_, 0);
    waiting_ = 0;
    writing_ = true;
    lock.unlock();
    if (dropped > 0) log::warn("egress", "{} entries of the journal were dropped: they came too fast", dropped);
    for (const auto& [path, lines] : batch) append(path, lines);
    lock.lock();
    writing_ = false;
    changed_.notify_all();
  }
}

void Journal::append(const std::filesystem::path& path, std::string_view lines) const {
  try {
    auto fd = open_file(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW);
    struct stat status {};
    check_errno(::fstat(fd.get(), &status), path.string());
    if (static_cast<std::size_t>(status.st_size) + lines.size() > limits_.file_bytes && status.st_size > 0) {
      if (::rename(path.c_str(), rotated(path).c_str()) < 0) throw_errno("rotating " + path.string());
      fd = open_file(path, O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW);
    }
    write_all(fd.get(), lines, Deadline::never());
  } catch (const Error& error) {
    log::warn("egress", "the journal of connections cannot be written: {}", error.what());
  }
}

}  // namespace agentvm::egress
