// git-remote-agentvm: `git fetch agentvm::NAME`. Git starts it, asks on its standard input for references and objects
// (gitremote-helpers(7): list, fetch), and makes its references itself, in the namespace of its own remote. Everything
// from the guest goes through the manager's checked path; this process reads nothing that a guest wrote.

#include <csignal>
#include <cstdlib>
#include <iostream>

#include <fmt/format.h>

#include "cli/client/request.hpp"
#include "vmm/base/process.hpp"
#include "vmm/base/text.hpp"

namespace {

using namespace agentvm;
using namespace agentvm::cli;

class Helper {
 public:
  Helper(std::string name, Output& output) : name_(std::move(name)), output_(output), paths_(resolve_paths()) {
    output_.quiet(true);  // until git says that its user wants to see progress
  }

  void run() {
    for (std::string line; std::getline(std::cin, line) && !line.empty();) {
      if (line == "capabilities")
        answer("fetch\noption\n\n");
      else if (line.starts_with("option "))
        option(line.substr(7));
      else if (line == "list")
        list();
      else if (line.starts_with("fetch "))
        fetch(line);
      else
        throw Error(ErrorCode::usage,
                    line.starts_with("list for-push") || line.starts_with("push")
                        ? "a sandbox takes no push: host commits go in by 'agentvm sync' and 'agentvm start'"
                        : fmt::format("git asks for something that a sandbox does not have: '{}'", clean(line)));
    }
  }

 private:
  static std::string clean(const std::string& text) { return clean_guest_text(text, Newlines::escape, 200); }

  static void answer(const std::string& text) {
    std::cout << text << std::flush;
    if (!std::cout) throw Error(ErrorCode::cancelled, "git ended before it had its answer");
  }

  void option(const std::string& words) {
    if (words.starts_with("progress ")) output_.quiet(words == "progress false");
    answer(words.starts_with("progress ") || words.starts_with("verbosity ") ? "ok\n" : "unsupported\n");
  }

  /// Whether the user's git configuration says that a suspended sandbox is to be resumed for this.
  static bool wake() {
    ProcessSpec spec;
    spec.argv = {"git", "config", "--type=bool", "--get", "agentvm.wake"};
    const auto result = agentvm::run(spec, Deadline::after(std::chrono::seconds(10)));
    return result.status.ok() && result.out == "true\n";
  }

  Json call(const char* method, Json params) {
    if (!name_.empty()) params["name"] = name_;
    auto result = call_manager(paths_, method, params, output_);
    for (const auto& ref : require<Json>(result, "rejected"))
      output_.warn(fmt::format("{} is left out: it {}", clean(require<std::string>(ref, "name")),
                               clean(require<std::string>(ref, "reason"))));
    return result;
  }

  /// The repository git works in: it says so where there is one.
  static std::optional<std::string> repository() {
    const char* git_dir = std::getenv("GIT_DIR");
    std::error_code problem;
    const auto folder = std::filesystem::canonical(git_dir && *git_dir ? git_dir : ".git", problem);
    if (problem) return std::nullopt;
    return folder.string();
  }

  void list() {
    auto params = request_params();
    if (const auto folder = repository()) params["git_dir"] = *folder;
    params["wake"] = wake();
    const auto result = call("remote.list", params);
    const auto head = require<std::string>(result, "head_branch");
    const auto detached = require<std::string>(result, "detached_head");
    // HEAD comes first, as from any remote: `git ls-remote` keeps the order.
    std::string text;
    if (!detached.empty()) text = fmt::format("{} HEAD\n", detached);
    for (const auto& ref : require<Json>(result, "branches"))
      if (detached.empty() && require<std::string>(ref, "branch") == head)
        text = fmt::format("@refs/heads/{} HEAD\n", head);
    for (const auto& ref : require<Json>(result, "branches"))
      text += fmt::format("{} refs/heads/{}\n", require<std::string>(ref, "tip"), require<std::string>(ref, "branch"));
    answer(text + "\n");
  }

  /// `line` is the first of a batch that ends with an empty one: "fetch ID NAME".
  void fetch(std::string line) {
    std::map<std::string, std::string> wanted;  // id -> name
    do {
      const auto id = line.substr(6, 40);
      wanted[id] = line.size() > 47 ? line.substr(47) : "";
    } while (std::getline(std::cin, line) && line.starts_with("fetch "));
    const auto folder = repository();
    if (!folder) throw Error(ErrorCode::not_found, "git did not say which repository to fetch into");
    auto params = request_params();
    params["git_dir"] = *folder;
    const auto result = call("remote.fetch", params);
    for (const auto& ref : require<Json>(result, "branches")) wanted.erase(require<std::string>(ref, "tip"));
    wanted.erase(require<std::string>(result, "detached_head"));
    const auto keep = require<std::string>(result, "keep");
    if (!keep.empty()) answer(fmt::format("lock {}\n", keep));
    tell_gated(require<Json>(result, "gated"));
    if (!require<bool>(result, "all_judged"))
      output_.warn("so many branches came that not all were searched for what may run on this host");
    // A tip that moved forward since the list is in the new one's history, and git finds it there by itself.
    for (const auto& [id, name] : wanted)
      output_.warn(fmt::format("{} moved in the sandbox, or was refused, while git was fetching", clean(name)));
    answer("\n");
  }

  /// Git may check it out next (a clone does), and asks nobody: so it is told.
  void tell_gated(const Json& gated) {
    constexpr std::size_t listed_limit = 10;
    for (std::size_t i = 0; i < std::min(gated.size(), listed_limit); ++i)
      output_.warn(fmt::format("{}: {}", clean(require<std::string>(gated[i], "kind")),
                               clean(require<std::string>(gated[i], "path"))));
    if (gated.empty()) return;
    const auto more = gated.size() > listed_limit ? fmt::format("and {} more ", gated.size() - listed_limit) : "";
    output_.warn(
        fmt::format("these {}may run or steer something on this host: read them before you check them out", more));
  }

  const std::string name_;
  Output& output_;
  const Paths paths_;
};

int run(int count, char** words) {
  Output output(Output::Format::text);
  // As in main.cpp: where errors become text and a status.
  const auto fail = [&](const Error& error) {
    output.fail(error, exit_code(error.code()), "");
    return exit_code(error.code());
  };
  try {
    if (count == 2 && std::string_view(words[1]) == "--version") {
      output.print("git-remote-agentvm " AGENTVM_VERSION "\n");
      return 0;
    }
    if (count < 2 || count > 3)
      throw Error(ErrorCode::usage, "git starts this program by itself", "git fetch agentvm::NAME");
    Helper(count == 3 ? words[2] : "", output).run();
    return 0;
  } catch (const Error& error) {
    return fail(error);
  } catch (const ManagerLost&) {
    return fail(Error(ErrorCode::operation_failed, "the manager ended before it answered", "agentvm manager logs"));
  } catch (const std::exception& problem) {
    return fail(Error(ErrorCode::operation_failed, std::string("internal error: ") + problem.what()));
  }
}

}  // namespace

int main(int count, char** words) {
  std::signal(SIGPIPE, SIG_IGN);
  return run(count, words);
}
