#include "vmm/base/progress.hpp"

namespace agentvm {

Progress no_progress() {
  return [](const ProgressEvent&) {};
}

void report(const Progress& progress, std::string step, std::string text, int percent) {
  if (progress) progress({std::move(step), std::move(text), percent});
}

}  // namespace agentvm
