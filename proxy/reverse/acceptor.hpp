#pragma once
// The listening sockets, all of them on the loopback, and the thread that accepts from them. Private.

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <poll.h>

#include "vmm/base/fd.hpp"

namespace agentvm::proxy {

/// One port of 127.0.0.1 and ::1; `v6` is empty where this host has no such address.
struct Listener {
  UniqueFd v4, v6;
  int error = 0;           ///< errno of what failed; 0: listens
  std::string_view where;  ///< of what failed

  /// On both addresses or on none: a browser may try either. `port` 0 becomes one that is free.
  static Listener open(std::uint16_t& port);
};

/// Thread-safe.
class Acceptor {
 public:
  /// Called in the acceptor's thread; must neither block nor throw. `same_port`: the number that `open` was asked for;
  /// 0: the first listener.
  using Accepted = std::function<void(UniqueFd socket, std::uint16_t same_port)>;
  Acceptor(Listener first, Accepted accepted);
  ~Acceptor() { stop(); }

  /// "" when it listens on `number`, too; else why not, in half a sentence.
  std::string open(std::uint16_t number);
  /// Nobody can connect to it any more; accepted connections go on.
  void close(std::uint16_t number);
  /// Returns when nothing listens and no `Accepted` runs.
  void stop();

 private:
  enum class Round { done, no_descriptors };
  struct Seen {
    std::uint64_t change = 0;
    std::vector<pollfd> entries;  // the first one is `wake_`
    std::vector<std::uint16_t> numbers;
  };
  void run();
  bool look(Seen& seen);
  Round accept(const Seen& seen);
  void wake();

  const Accepted accepted_;
  UniqueFd wake_;
  std::mutex mutex_;  // guards the members below: no socket is closed while one is accepted from
  std::map<std::uint16_t, Listener> listeners_;
  std::uint64_t change_ = 1;  // counts changes of the listeners
  bool stopped_ = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace agentvm::proxy
