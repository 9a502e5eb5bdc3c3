#include "cli/commands/repository.hpp"

#include <algorithm>
#include <cctype>
#include <filesystem>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "vmm/base/error.hpp"
#include "vmm/base/process.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::cli {
namespace {

constexpr milliseconds ask_limit{60'000};

/// "owner/name" is a repository of the best-known forge, unless a folder has that name; anything else is git's to read.
std::string repository_url(const std::string& text) {
  const auto slash = text.find('/');
  const auto plain = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
  };
  const bool short_form = slash != std::string::npos && slash > 0 && text.find('/', slash + 1) == std::string::npos &&
                          slash + 1 < text.size() && text[0] != '.' && text[0] != '-' &&
                          std::all_of(text.begin(), text.end(), [&](char c) { return c == '/' || plain(c); });
  std::error_code ignored;
  if (short_form && !std::filesystem::exists(text, ignored)) return "https://github.com/" + text + ".git";
  return text;
}

/// "web" of "https://host/team/web.git/".
std::string repository_name(std::string url) {
  while (url.ends_with('/')) url.pop_back();
  if (url.ends_with(".git")) url.resize(url.size() - 4);
  while (url.ends_with('/')) url.pop_back();
  return url.substr(url.find_last_of("/:") + 1);
}

/// Of a web address all before the '@': a token stands where a name does.
std::string without_secret(const std::string& url) {
  for (const std::string scheme : {"https://", "http://"}) {
    if (!url.starts_with(scheme)) continue;
    const auto end = url.find('/', scheme.size()), at = url.substr(0, end).rfind('@');
    if (at != url.npos && at >= scheme.size()) return scheme + url.substr(at + 1);
  }
  return url;
}

}  // namespace

RepositoryAddress repository_address(const std::string& asked) {
  if (asked.empty() || asked.starts_with('-'))
    throw Error(ErrorCode::usage, fmt::format("--repo: '{}' is no address of a repository", asked), "agentvm help run");
  RepositoryAddress address{repository_url(asked), "", ""};
  address.shown = without_secret(address.url);
  address.name = repository_name(address.url);
  if (address.name.empty() || address.name == "." || address.name == "..")
    throw Error(ErrorCode::usage, fmt::format("--repo: '{}' names no repository", asked), "agentvm help run");
  return address;
}

std::string remote_head(const RepositoryAddress& repository) {
  ProcessSpec spec;
  // The folder may be one that a guest writes, and its .git/config names programs.
  spec.argv = {"env", "-u", "GIT_WORK_TREE", "-u", "GIT_COMMON_DIR", "GIT_DIR=/dev/null"};
  for (const std::string word : {"git", "ls-remote", "--symref", "--"}) spec.argv.push_back(word);
  spec.argv.insert(spec.argv.end(), {repository.url, "HEAD"});
  auto result = agentvm::run(spec, Deadline::after(ask_limit));
  while (result.err.ends_with('\n')) result.err.pop_back();
  if (!result.status.ok())
    throw Error(
        ErrorCode::operation_failed,
        fmt::format("git could not ask {}: {}", repository.shown, clean_guest_text(result.err, Newlines::escape, 300)),
        "git ls-remote " + shell_word(repository.shown));
  constexpr std::string_view before = "ref: refs/heads/";
  if (!result.out.starts_with(before)) return "";
  return result.out.substr(before.size(), result.out.find_first_of("\t\n") - before.size());
}

std::string joined_words(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, " "));
}

std::vector<OptionSpec> run_options() {
  return {{.name = "repo",
           .value = "REPO",
           .help = "Clone this repository (URL, path or owner/name) instead of using the one here"},
          {.name = "keep", .help = "Leave the sandbox running afterwards; so does --name"}};
}

}  // namespace agentvm::cli
