#pragma once
// Progress of long work, told by whoever does it and shown by whoever asked.

#include <functional>
#include <string>

namespace agentvm {

struct ProgressEvent {
  std::string step;  ///< short, stable, kebab-case: "image-packages", "boot", "ssh"
  std::string text;  ///< for people: "installing 214 packages"
  int percent = -1;  ///< 0-100, or -1 when unknown
};

/// May be called from any thread; must not block for long and must not throw.
using Progress = std::function<void(const ProgressEvent&)>;

/// A `Progress` that drops everything.
Progress no_progress();
/// Calls `progress` when it is set.
void report(const Progress& progress, std::string step, std::string text, int percent = -1);

}  // namespace agentvm
