#pragma once
// How much a sandbox may take of a host in a span of time: requests, bytes, and tokens where an API reports them.

#include <array>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/egress/policy.hpp"

namespace agentvm::egress {

/// "api.example.org 100 requests/hour".
struct Cap {
  enum class Unit { requests, bytes, tokens };
  HostRule host;  ///< without a port: all of them
  Unit unit = Unit::requests;
  std::uint64_t limit = 0;
  std::int64_t seconds = 0;  ///< of the span: it ends now, always
  std::string text;

  /// Of what the configuration has checked.
  static Cap parse(std::string_view text);
  bool covers(const HostPort& target) const;
  /// Whether TLS to `target` must be ended for it to be counted.
  bool needs_tls(const HostPort& target) const;
};

/// What went to or came from one host.
struct Taken {
  std::uint64_t requests = 0, bytes = 0, tokens = 0;
};

struct CapReached {
  std::string cap;           ///< its text
  std::int64_t seconds = 0;  ///< until there is room again
};

/// Of one sandbox. Thread-safe.
class CapLedger {
 public:
  explicit CapLedger(std::vector<Cap> caps);

  /// `now`: seconds since 1970; what is older than another's counts with the newest.
  void add(const HostPort& target, const Taken& taken, std::int64_t now);
  /// The one that `target` has reached and that opens last; nothing while there is room in all of them. `unit`: those
  /// of that alone.
  std::optional<CapReached> reached(const HostPort& target, std::int64_t now,
                                    std::optional<Cap::Unit> unit = std::nullopt) const;
  bool needs_tls(const HostPort& target) const;
  /// Whether one of `target` is about that.
  bool counts(const HostPort& target, Cap::Unit unit) const;

  struct State {
    std::string cap;
    std::uint64_t used = 0, limit = 0;
    std::int64_t seconds = 0;  ///< until there is room again; 0: there is
  };
  std::vector<State> states(std::int64_t now) const;

 private:
  /// The span in parts, at least a second each: what leaves it leaves a part at a time.
  static constexpr std::int64_t parts = 60;
  struct Count {
    Cap cap;
    std::deque<std::pair<std::int64_t, std::uint64_t>> used;  // a part's number, and what was taken in it
  };
  static std::int64_t part(const Cap& cap, std::int64_t now);
  static std::uint64_t sum(const Count& count, std::int64_t now);
  static std::int64_t until_room(const Count& count, std::int64_t now);

  mutable std::mutex mutex_;  // guards counts_
  std::vector<Count> counts_;
};

/// Reads what an answer of a model's API says of its tokens, as it passes: Anthropic's, OpenAI's and Google's fields,
/// in JSON and in events. Pure.
class TokenMeter {
 public:
  static constexpr std::size_t field_count = 10;  ///< that are known
  void read(std::string_view piece);
  /// What was reported; where nothing was, or not to the end, an estimate: a token for each event, for four bytes
  /// elsewhere.
  std::uint64_t tokens() const;
  /// The answer is whole.
  void end() { ended_ = true; }

 private:
  void number(std::size_t field, std::uint64_t value);
  std::array<std::uint64_t, field_count> fields_{};
  std::string tail_;
  std::uint64_t bytes_ = 0, events_ = 0;
  bool reported_ = false, ended_ = false;
};

}  // namespace agentvm::egress
