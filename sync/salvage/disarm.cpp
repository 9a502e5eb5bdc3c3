#include "sync/salvage/disarm.hpp"

#include <algorithm>

#include "vmm/base/error.hpp"

namespace agentvm::sync {
namespace {

std::string lower_case(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : static_cast<char>(c);
  });
  return text;
}

struct Folder {
  std::vector<fs::path> folders, doomed;
};

Folder look_at(const fs::path& folder) {
  Folder result;
  std::vector<fs::path> heads;
  bool repository = false;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const auto name = lower_case(entry.path().filename().string());
    const auto status = entry.symlink_status();
    if (fs::is_directory(status))
      result.folders.push_back(entry.path());
    else if (names_a_repository(name))
      result.doomed.push_back(entry.path());
    if (name == "head") heads.push_back(entry.path());
    repository = repository || name == "objects" || name == "commondir";
  }
  if (repository) result.doomed.insert(result.doomed.end(), heads.begin(), heads.end());
  return result;
}

fs::path inert_name(const fs::path& path) {
  auto name = path.string() + ".rescued";
  for (int again = 2; fs::exists(fs::symlink_status(name)); ++again)
    name = path.string() + ".rescued" + std::to_string(again);
  return name;
}

}  // namespace

bool names_a_repository(const std::string& name) {
  return lower_case(name) == ".git";
}

std::vector<std::string> disarm_repositories(const fs::path& folder) {
  std::vector<std::string> renamed;
  std::vector<fs::path> left{folder};
  while (!left.empty()) {
    const auto found = look_at(left.back());
    left.pop_back();
    for (const auto& path : found.doomed) {
      if (::rename(path.c_str(), inert_name(path).c_str()) < 0) throw_errno("renaming " + path.string());
      renamed.push_back(path.lexically_relative(folder).string());
    }
    for (const auto& each : found.folders)
      if (fs::is_directory(fs::symlink_status(each))) left.push_back(each);  // not one that has just been renamed
  }
  std::sort(renamed.begin(), renamed.end());
  return renamed;
}

}  // namespace agentvm::sync
