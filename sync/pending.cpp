#include "sync/pending.hpp"

#include <charconv>

#include <fmt/format.h>

#include "sync/host_repository.hpp"
#include "sync/refs.hpp"

namespace agentvm::sync {
namespace {

constexpr std::size_t tip_limit = 2'000;          // 84 KB on the guest's standard input
constexpr std::uint64_t pending_limit = 100'000;  // nobody reads more exactly than that

}  // namespace

PendingQuestion pending_question(const fs::path& repository, const SandboxName& sandbox, const std::string& guest_path,
                                 Deadline deadline) {
  PendingQuestion question;
  question.argv = {"git",        "-C",
                   guest_path,   "rev-list",
                   "--count",    fmt::format("--max-count={}", pending_limit),
                   "--branches", "--ignore-missing",
                   "--stdin"};
  const HostGit git(repository);
  std::size_t count = 0;
  for (const auto& prefix : {mirror_ref(sandbox.str(), ""), std::string("refs/heads/")})
    for (const auto& [ref, tip] : list_refs(git, prefix, deadline))
      if (count++ < tip_limit) question.input += "^" + tip + "\n";
  return question;
}

std::optional<std::uint64_t> pending_answer(std::string_view output) {
  if (output.ends_with('\n')) output.remove_suffix(1);
  std::uint64_t number = 0;
  const auto [end, problem] = std::from_chars(output.data(), output.data() + output.size(), number);
  if (problem != std::errc() || end != output.data() + output.size() || number > pending_limit) return std::nullopt;
  return number;
}

}  // namespace agentvm::sync
