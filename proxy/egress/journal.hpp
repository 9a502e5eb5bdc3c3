#pragma once
// What was decided, kept: one file of JSON lines per sandbox, bounded, written by a thread of its own.

#include <condition_variable>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "proxy/egress/egress.hpp"
#include "vmm/base/json.hpp"

namespace agentvm::egress {

struct JournalEntry {
  enum class Event {
    open,   ///< an allowed connection begins to pass
    end,    ///< it ended; its `open` came before
    held,   ///< a question was asked about it: it waits, and its end comes later
    whole,  ///< both in one: a connection that was refused, or over before anything passed
  };
  Event event = Event::whole;
  Decision decision;
};
std::string_view to_string(JournalEntry::Event event);

/// One line of the file, without the line end. `{time, sandbox, event, protocol, host, port, verdict, cause, rule,
/// reason, bytes_up, bytes_down, requests, tokens}`.
Json to_json(const JournalEntry& entry);
/// Nothing for a line that is none: a crash may have cut it.
std::optional<JournalEntry> journal_entry(std::string_view line);

/// The entries of `file` and of the one that it was rotated to, oldest first; empty when there is none.
std::vector<JournalEntry> read_journal(const std::filesystem::path& file);

/// How many connections the journal tells of.
struct JournalCounts {
  std::uint64_t allowed = 0, denied = 0, failed = 0;  ///< `failed` with the malformed ones
  void add(const JournalEntry& entry);
  bool operator==(const JournalCounts&) const = default;
};

/// Thread-safe. What cannot be written is lost and told in the manager's log, because nothing else may wait for it.
class Journal {
 public:
  struct Limits {
    std::size_t file_bytes = 2u << 20;  ///< then it is rotated to FILE.1, over what was there
    std::size_t queued = 4096;          ///< entries that wait to be written; more are dropped and counted
  };
  Journal() : Journal(Limits{}) {}
  explicit Journal(Limits limits);
  ~Journal();  ///< writes what waits
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  /// Entries of `sandbox` go to `file` from now on; its counts begin with what is there. Again is fine.
  void add(const std::string& sandbox, const std::filesystem::path& file);
  /// Nothing of `sandbox` is written any more when this returns.
  void remove(const std::string& sandbox);
  /// Never waits for a disk. Entries of sandboxes that were not added are dropped.
  void write(JournalEntry entry);
  /// Nothing for a sandbox that was not added.
  std::optional<JournalCounts> counts(const std::string& sandbox) const;
  /// Waits until everything that was written before is in the files.
  void flush();

 private:
  struct File {
    std::filesystem::path path;
    JournalCounts counts;
    std::string waiting;  // whole lines
    std::size_t lines = 0;
  };
  void run();
  void append(const std::filesystem::path& path, std::string_view lines) const;

  const Limits limits_;
  mutable std::mutex mutex_;  // guards the members below but the thread
  std::condition_variable changed_;
  std::map<std::string, File> files_;
  std::size_t waiting_ = 0, dropped_ = 0;
  bool writing_ = false, stopping_ = false;
  std::thread thread_;
};

}  // namespace agentvm::egress
