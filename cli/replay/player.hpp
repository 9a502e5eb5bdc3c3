#pragma once
// Plays a recording on this process's terminal: filtered (terminal_filter.hpp), on the terminal's other screen, with
// keys for whoever looks on. The terminal is put back on every way out.

#include "cli/client/output.hpp"
#include "cli/replay/recording.hpp"

namespace agentvm::cli {

struct PlayOptions {
  double speed = 1;
  double idle_limit_seconds = 2;  ///< 0: none
};

/// Until its end, or until q; space holds it and lets it go on. At the end the last picture stays until a key comes,
/// where keys can come. Standard output must be a terminal. Returns the exit status: 0, or 128 and the number of the
/// signal that ended it, Ctrl-C included.
int play(const Recording& recording, const PlayOptions& options, Output& output);

}  // namespace agentvm::cli
