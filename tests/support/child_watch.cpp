#include "tests/support/child_watch.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <unistd.h>

namespace agentvm::test {
namespace {

constexpr std::size_t kernel_name_bytes = 15;
constexpr milliseconds between_samples{5};

/// Fields 14 and 15 of /proc/PID/stat, in clock ticks.
milliseconds cpu_of(const std::string& pid) {
  std::ifstream file("/proc/" + pid + "/stat");
  std::stringstream text;
  text << file.rdbuf();
  const auto line = text.str();
  std::istringstream fields(line.substr(std::min(line.rfind(')') + 1, line.size())));
  std::string skipped;
  for (int field = 3; field < 14; ++field) fields >> skipped;
  long user = 0, system = 0;
  fields >> user >> system;
  return milliseconds((user + system) * 1000 / ::sysconf(_SC_CLK_TCK));
}

}  // namespace

ChildWatch::ChildWatch(std::string program)
    : name_(program.substr(0, kernel_name_bytes)), thread_([this] { watch(); }) {}

ChildWatch::~ChildWatch() {
  cost();
}

ChildWatch::Cost ChildWatch::cost() {
  done_ = true;
  if (thread_.joinable()) thread_.join();
  Cost cost{private_bytes_, milliseconds(0), static_cast<int>(cpu_.size())};
  for (const auto& [pid, cpu] : cpu_) cost.cpu += cpu;
  return cost;
}

void ChildWatch::watch() {
  while (!done_) {
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
      std::ifstream children(task.path() / "children");
      for (std::string pid; children >> pid;) look_at(pid);
    }
    std::this_thread::sleep_for(between_samples);
  }
}

void ChildWatch::look_at(const std::string& pid) {
  std::ifstream status("/proc/" + pid + "/status");
  bool ours = false;
  for (std::string line; std::getline(status, line);) {
    if (line == "Name:\t" + name_) ours = true;
    if (ours && line.starts_with("RssAnon:"))
      private_bytes_ = std::max<std::uint64_t>(private_bytes_, std::strtoull(line.c_str() + 8, nullptr, 10) * 1024);
  }
  if (ours) cpu_[pid] = std::max(cpu_[pid], cpu_of(pid));
}

}  // namespace agentvm::test
