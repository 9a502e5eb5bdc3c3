#pragma once
// A private folder that is gone when the test is, and the check that an `Error` of a kind comes out.

#include <filesystem>
#include <optional>
#include <string>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::test {

class TemporaryFolder {
 public:
  TemporaryFolder()
      : path_(std::filesystem::canonical(std::filesystem::temp_directory_path()) / ("agentvm-test-" + random_hex(6))) {
    ensure_private_dir(path_);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    try {
      remove_tree(path_);
    } catch (const Error&) {
      // the test that left it in this state has failed already
    }
  }
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::filesystem::path& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

/// The error that `action` throws; nothing when it throws none.
template <class Action>
std::optional<Error> error_of(Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

}  // namespace agentvm::test
