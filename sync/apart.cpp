#include "sync/apart.hpp"

#include <cstdlib>

namespace agentvm::sync {
namespace {

constexpr std::size_t compared_limit = 32, foretold_limit = 8;  ///< a process each

/// Commits of `a` that `b` lacks, and the other way round.
std::pair<std::uint64_t, std::uint64_t> commits_apart(const HostGit& git, const std::string& a, const std::string& b,
                                                      Deadline deadline) {
  const auto counts = git.line({"rev-list", "--left-right", "--count", a + "..." + b}, deadline);
  char* rest = nullptr;
  const auto left = std::strtoull(counts.c_str(), &rest, 10);
  return {left, std::strtoull(rest, nullptr, 10)};
}

}  // namespace

std::vector<ApartBranch> find_apart(const BranchTips& tips, const std::set<std::string>& passed_over,
                                    const HostGit& git, const Forecast& forecast, Deadline deadline) {
  std::vector<ApartBranch> found;
  std::size_t compared = 0, foretold = 0;
  for (const auto& [branch, tip] : tips.user) {
    const auto guest = tips.guest.find(branch);
    if (passed_over.contains(branch) || (guest != tips.guest.end() && guest->second == tip)) continue;
    if (guest == tips.guest.end()) {
      const auto standing = tips.guest_before.contains(branch) ? Standing::removed : Standing::missing;
      found.push_back({branch, standing, tip, "", 0, std::nullopt});
    } else if (compared++ >= compared_limit) {
      found.push_back({branch, Standing::different, tip, guest->second, 0, std::nullopt});
    } else {
      const auto [mine, theirs] = commits_apart(git, tip, guest->second, deadline);
      if (mine == 0) continue;  // the sandbox is ahead: its commits are here, below refs/agentvm
      found.push_back(
          {branch, theirs == 0 ? Standing::behind : Standing::diverged, tip, guest->second, mine, std::nullopt});
      if (theirs > 0 && foretold++ < foretold_limit) found.back().conflicts = forecast(tip, guest->second);
    }
  }
  return found;
}

}  // namespace agentvm::sync
