// agentvm-git: talks to a hostile upload-pack or receive-pack on standard input and output, in a throw-away folder,
// with nothing else within reach.
//
// Job: fetch and judge, or push (a pack that is ready, descriptor 4); say the verdict (JSON, one line, descriptor 3).
// Not its job: references, the host's repository (it only reads the host's objects), anything after the verdict. Flow:
// request.json and haves are read, limits and walls go up, the first hostile byte is read after that. Limits:
// sync.limits. Threads: one. Cancelling is killing: the folder is the parent's to remove.
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "sync/git/child/confine.hpp"
#include "sync/git/push_client.hpp"
#include "sync/git/session.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"

namespace {

using namespace agentvm;

void say(const Json& verdict) {
  write_all(sync::verdict_fd, dump_json(verdict) + "\n", Deadline::after(std::chrono::seconds(10)));
}

Json fetch() {
  const auto request = sync::request_from_json(parse_json(read_file(sync::request_file), "the request"));
  git::limit_resources(request.limits);
  git::start_library(request.limits);
  git::confine(request.object_dirs, std::filesystem::current_path().string());
  return to_json(git::fetch(request, 0, 1));
}

Json push() {
  const auto request = sync::push_request_from_json(parse_json(read_file(sync::request_file), "the request"));
  git::limit_resources(request.limits);
  git::confine({}, std::filesystem::current_path().string());
  return to_json(git::push(request, 0, 1, sync::pack_fd));
}

int run(Json (*conversation)()) {
  try {
    say(conversation());
    return 0;
  } catch (const Error& error) {
    say(sync::refusal_to_json(error));
  } catch (const std::bad_alloc&) {
    say(sync::refusal_to_json(Error(ErrorCode::operation_failed,
                                    "what the guest sent needs more memory than allowed (sync.limits.memory)",
                                    "agentvm config show")));
  } catch (const std::exception& error) {
    say(sync::refusal_to_json(Error(ErrorCode::operation_failed, error.what())));
  }
  return 3;
}

}  // namespace

int main(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);
  if (argc == 2 && std::strcmp(argv[1], "--version") == 0) {
    std::puts("agentvm-git " AGENTVM_VERSION);
    return 0;
  }
  if (argc == 2 && std::strcmp(argv[1], "fetch") == 0) return run(fetch);
  if (argc == 2 && std::strcmp(argv[1], "push") == 0) return run(push);
  std::fputs("usage: agentvm-git fetch|push   (started by agentvm; see docs/architecture.md)\n", stderr);
  return 64;
}
