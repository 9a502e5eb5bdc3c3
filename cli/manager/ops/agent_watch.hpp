#pragma once
// Who of the agents works, who waits for a human, and who is done.
//
// Job: one thread per running sandbox with an agent hears from the guest what the agents' terminal sessions do (its own
// and its work trees'), keeps it with the time since when, and calls back when a human is wanted. Not its job: telling
// the human (notify.hpp). What a guest says is a hint: a word of four and a number, of sessions that are known on the
// host. Threads: thread-safe; the callbacks run on the sandbox's thread.

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "cli/manager/ops/guest_news.hpp"
#include "guest/control/control.hpp"
#include "vmm/base/json.hpp"
#include "vmm/base/names.hpp"

namespace agentvm::manager {

class AgentWatch {
 public:
  struct Session {
    std::string state;        ///< as `guest::GuestSession::state`; empty: not known
    int code = 0;             ///< of "ended"
    std::int64_t since = 0;   ///< seconds since 1970, of the host
    std::int64_t seen = 0;    ///< when somebody last looked; 0: never
    unsigned spectators = 0;  ///< who look now
    /// Whether there is something for a human to do.
    bool wants_human() const { return state == "waiting" || state == "ended"; }
  };
  /// However often a guest changes its mind: each call may run a command of the user's.
  static constexpr std::size_t calls_a_minute = 3;
  /// Which of the sessions that a guest tells of are the sandbox's. Asked again at each of its news, and of `next`: a
  /// work tree's session ends with the work tree.
  using Known = std::function<bool(const SandboxName&, const std::string& session)>;
  /// An agent wants a human, newly, and nobody looks; `calls_a_minute` for a sandbox at most, the others are dropped.
  using Wanted = std::function<void(const SandboxName&, const std::string& session, const Session&)>;

  AgentWatch(Known known, Wanted wanted) : known_(std::move(known)), wanted_(std::move(wanted)) {}

  /// Follows the sandbox's sessions until `unwatch`, in place of what was followed under this name.
  void watch(const SandboxName& name, std::shared_ptr<guest::Control> control);
  /// What was known is forgotten, but when somebody looked.
  void unwatch(const SandboxName& name);
  Session session(const SandboxName& name, const std::string& session) const;
  /// Somebody looks at the session for as long as the result lives.
  std::shared_ptr<void> look(const SandboxName& name, const std::string& session);
  /// Sandbox and session whose agent has waited longest for somebody to look, then those that were looked at longest
  /// ago; nothing when none waits that nobody looks at now.
  std::optional<std::pair<SandboxName, std::string>> next() const;
  void stop() { watches_.stop(); }

 private:
  void follow(const std::stop_token& stop, const SandboxName& name, guest::Control& control);
  void forget_unknown(const SandboxName& name);
  void set(const SandboxName& name, const guest::GuestSession& told, bool news);

  using Key = std::pair<std::string, std::string>;  // sandbox and session
  /// What those who look hold on to: an attached terminal may end after us.
  struct Shared {
    std::mutex mutex;  // guards what follows, and the members below
    std::map<Key, Session> sessions;
    std::map<std::string, std::deque<std::int64_t>> calls;  // of a sandbox, `calls_a_minute` at most
  };
  const Known known_;
  const Wanted wanted_;
  const std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
  Followers watches_;  // last: they use all of the above
};

}  // namespace agentvm::manager
