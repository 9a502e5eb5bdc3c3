#pragma once
// What the connections of a sandbox wait for its user to decide (`egress.ask`): one question per name, all of it
// bounded. Pure; time is passed in.

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "vmm/base/clock.hpp"

namespace agentvm::egress {

struct Question {
  std::string rule;             ///< what `agentvm egress allow` takes for it: exact, and safe to show
  std::int64_t since = 0;       ///< seconds since 1970
  SteadyTime due;               ///< refused then, for all who wait
  std::size_t connections = 0;  ///< that wait
};

/// Whether the user's own command is to be run for a question.
enum class Notice { silent, due };

/// Of one sandbox. Each number is what a guest can make its user look at, or this host keep.
class Questions {
 public:
  struct Limits {
    std::size_t names = 16;        ///< questions at once
    std::size_t connections = 64;  ///< that wait at once, for all questions together
    /// Questions of different names that the user is told of in a minute; of one name, one is.
    std::size_t notices_a_minute = 6;
    /// apt and cargo give up after 30 seconds without an answer: ours, which says what to do, must come before.
    milliseconds time{25'000};
  };
  explicit Questions(const Limits& limits) : limits_(limits) {}

  struct Place {
    enum class Kind {
      none,    ///< too many wait already: refused at once
      joined,  ///< one more that waits for a question that is open
      asked,   ///< a question of its own
    };
    Kind kind = Kind::none;
    SteadyTime due;                  ///< of the question, not of who joins it: retrying does not keep it open
    Notice notice = Notice::silent;  ///< with `asked`
  };
  /// A connection begins to wait for `rule`. `leave` takes it out again, unless its place was `none`.
  Place hold(const std::string& rule, SteadyTime now, std::int64_t unix_seconds);
  /// A question goes with the last one that waits for it.
  void leave(const std::string& rule);
  /// The oldest first.
  std::vector<Question> open() const;

 private:
  Notice notice_for(const std::string& rule, SteadyTime now);
  const Limits limits_;
  std::map<std::string, Question> open_;
  std::size_t connections_ = 0;
  std::deque<std::pair<SteadyTime, std::string>> notices_;  // of the last minute: `notices_a_minute` at most
};

}  // namespace agentvm::egress
