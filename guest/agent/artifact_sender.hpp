#pragma once
// `agentvm-guest artifacts`: tells what is there, and sends what the host asks for, over standard output. It runs as
// the agent's user and is trusted by nobody: the host checks every byte (sync/artifacts/stream.hpp, where the format
// stands, too).

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace agentvm::guest::agent {

struct Artifact {
  enum class Kind { file, link, left_out } kind = Kind::file;
  bool executable = false;
  std::uint64_t size = 0;
  std::int64_t mtime_ns = 0;
  std::string target;  ///< of a link
};

/// What matches `globs` below `root`, by path, at most `limit` of it and one more. A glob is a path from the root; `*`
/// and `?` stand for what is no '/', `**` for any folders; a folder is everything below it. Folders named .git are
/// passed over, links are not followed.
std::map<std::string, Artifact> find_artifacts(const std::filesystem::path& root, const std::vector<std::string>& globs,
                                               std::size_t limit);

/// Lists on `out`, reads what is wanted from `in`, sends it. Throws when a stream ends early.
void send_artifacts(const std::filesystem::path& root, const std::vector<std::string>& globs, std::size_t limit, int in,
                    int out);

}  // namespace agentvm::guest::agent
