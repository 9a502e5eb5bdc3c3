#pragma once
// Bytes between our standard streams and the descriptors of a guest process. A thread per direction: a full pipe on one
// side never holds up another, and no descriptor that we share with the shell is made non-blocking.

#include <atomic>
#include <string>
#include <thread>

#include "vmm/base/fd.hpp"

namespace agentvm::cli {

class Pump {
 public:
  enum class Sink { stdio, capture };
  static constexpr std::size_t capture_limit_bytes = 8u << 20;  // of each stream; the rest is read and dropped

  /// `io` must be a connected socket, or with `input` false anything that can be read; `err` may be empty (a terminal).
  Pump(UniqueFd io, UniqueFd err, Sink sink, bool input = true);
  /// Stops and joins.
  ~Pump();
  Pump(const Pump&) = delete;
  Pump& operator=(const Pump&) = delete;

  /// Readable when something happened: see `state`.
  int event_fd() const { return events_.first.get(); }
  struct State {
    bool output_done = false;  ///< everything the guest wrote has been written out
    bool reader_gone = false;  ///< our standard output is closed at the other end
    int write_error = 0;       ///< errno of another failure to write
    bool waiting_in_write = false;
    std::uint64_t bytes_out = 0;
  };
  State state();
  /// Stops and waits for the threads: `out` and `err` are complete then.
  void join();
  /// No more input is taken from our standard input (the guest process ended).
  void stop_input();

  // After `join`, with Sink::capture.
  std::string out, err;
  bool cut = false;

 private:
  struct Direction {
    UniqueFd from;
    int to = -1;
    std::string* into = nullptr;
    std::atomic<bool> done{false}, in_write{false};
  };
  void copy_out(Direction& direction);
  void copy_in();
  bool put(Direction& direction, const char* data, std::size_t size);
  void tell();

  UniqueFd io_;
  Direction out_, err_;
  FdPair events_, input_stop_, stop_;
  std::atomic<bool> reader_gone_{false};
  std::atomic<int> write_error_{0};
  std::atomic<std::uint64_t> bytes_out_{0};
  std::thread input_thread_, out_thread_, err_thread_;
};

}  // namespace agentvm::cli
