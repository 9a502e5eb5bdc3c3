#pragma once
// A private AGENTVM_HOME and an installation prefix whose libexec holds the fake manager beside the product's client.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/support/temporary_folder.hpp"
#include "vmm/base/json.hpp"
#include "vmm/base/process.hpp"

namespace agentvm::test {

inline constexpr milliseconds step_limit{20'000};

/// <prefix>/bin/agentvm and <prefix>/libexec/agentvm/agentvm-manager; made once per test program.
inline const std::filesystem::path& prefix() {
  static const TemporaryFolder folder;
  static const auto made = [] {
    namespace fs = std::filesystem;
    fs::create_directories(folder / "bin");
    fs::create_directories(folder / "libexec/agentvm");
    fs::copy_file(AGENTVM_TEST_CLIENT, folder / "bin/agentvm");
    fs::copy_file(AGENTVM_TEST_HELPER, folder / "bin/git-remote-agentvm");
    fs::copy_file(AGENTVM_TEST_MANAGER, folder / "libexec/agentvm/agentvm-manager");
    return folder.path();
  }();
  return made;
}

class ClientTest : public testing::Test {
 protected:
  ~ClientTest() override {
    // Whatever a test left running ends here: the pids are those that the fakes themselves wrote down.
    run({"manager", "stop"});
    for (const auto pid : started())
      if (process_start_ticks(pid) != 0 && is_fake(pid)) ::kill(pid, SIGKILL);
  }

  static std::string client() { return (prefix() / "bin/agentvm").string(); }
  std::map<std::string, std::string> environment() const {
    return {{"PATH", "/usr/bin:/bin"},
            {"HOME", home_.path().string()},
            {"AGENTVM_HOME", home_.path().string()},
            {"TERM", "xterm"}};
  }
  ProcessSpec spec(std::vector<std::string> words) const {
    ProcessSpec result;
    result.argv = {client()};
    result.argv.insert(result.argv.end(), words.begin(), words.end());
    result.env = environment();
    result.cwd = home_.path().string();
    return result;
  }
  RunResult run(std::vector<std::string> words, std::string_view input = {},
                std::size_t limit_bytes = 64u << 20) const {
    return agentvm::run(spec(std::move(words)), Deadline::after(milliseconds(60'000)), input, limit_bytes);
  }
  Json json(std::vector<std::string> words) const {
    const auto result = run(words);
    return parse_json(result.out, "output of " + words[0] + ": " + result.err);
  }
  void put(const std::string& name, const std::string& text) const { write_file_atomic(home_ / name, text); }
  int manager_pid() const { return require<int>(json({"manager", "status", "--json"}), "pid"); }
  /// Every fake manager that was ever started below this home.
  std::vector<int> started() const {
    std::vector<int> result;
    std::error_code none;
    for (const auto& entry : std::filesystem::directory_iterator(home_ / "started", none))
      result.push_back(std::stoi(entry.path().filename()));
    return result;
  }
  static bool is_fake(int pid) {
    std::error_code problem;
    return std::filesystem::read_symlink("/proc/" + std::to_string(pid) + "/exe", problem)
        .string()
        .starts_with(prefix().string());
  }
  static bool alive(int pid) { return is_fake(pid); }
  template <class Condition>
  static bool eventually(Condition condition, milliseconds limit = step_limit) {
    for (const auto deadline = Deadline::after(limit); !deadline.expired();
         std::this_thread::sleep_for(milliseconds(10)))
      if (condition()) return true;
    return condition();
  }

  TemporaryFolder home_;
};

}  // namespace agentvm::test
