// agentvm-artifacts: reads what a guest sends of its build products and writes it below one folder, with nothing else
// within reach.
//
// Job: judge the listing, ask for what is new, write it, say so. Not its job: what was asked for and by whom. Flow: the
// request (JSON, descriptor 5) is read, walls go up, the first hostile byte is read after that: on standard input; the
// answer to it goes to standard output. Descriptor 3 gets lines of JSON: {"progress"}, then {"verdict"} or {"error"};
// 4 is the folder. Limits: artifacts.limits, and a memory limit that follows from them. Threads: one. Cancelling is
// killing: a file that was being written is the next run's to remove. `unpack` does the same for an archive from the
// disk of a guest that is gone: nobody is asked, the folder is new and ours.
#include <csignal>
#include <cstdio>
#include <cstring>

#include <unistd.h>

#include "sync/artifacts/child/walls.hpp"
#include "sync/artifacts/receive.hpp"
#include "sync/artifacts/unpack.hpp"
#include "vmm/base/clock.hpp"
#include "vmm/base/files.hpp"

namespace {

using namespace agentvm;

constexpr int said_fd = 3, folder_fd = 4, request_fd = 5;
constexpr milliseconds progress_pause{250};

struct Ended : Error {
  Ended() : Error(ErrorCode::operation_failed, "the sandbox stopped sending") {}
};

/// The guest's stream, in large pieces.
class Stream final : public sync::ByteSource {
 public:
  void read(void* into, std::size_t size) override {
    auto* to = static_cast<char*>(into);
    while (size > 0) {
      if (at_ == have_) fill();
      const auto part = std::min(size, have_ - at_);
      std::memcpy(to, buffer_ + at_, part);
      at_ += part;
      to += part;
      size -= part;
    }
  }

 private:
  void fill() {
    const auto count = read_some(STDIN_FILENO, buffer_, sizeof buffer_, Deadline::never());
    if (count == 0) throw Ended();
    have_ = count;
    at_ = 0;
  }
  char buffer_[256u << 10];
  std::size_t at_ = 0, have_ = 0;
};

void say(const char* key, Json value) {
  Json line;
  line[key] = std::move(value);
  write_all(said_fd, dump_json(line) + "\n", Deadline::never());
}

class Teller {
 public:
  void operator()(const sync::ReceiveProgress& now) {
    const auto time = std::chrono::steady_clock::now();
    if (time - last_ < progress_pause) return;
    last_ = time;
    say("progress",
        {{"files", now.files}, {"all_files", now.all_files}, {"bytes", now.bytes}, {"all_bytes", now.all_bytes}});
  }

 private:
  SteadyTime last_ = std::chrono::steady_clock::now();
};

Json read_request() {
  const auto text = read_file("/proc/self/fd/5", 256u << 20);
  ::close(request_fd);
  return parse_json(text, "the request");
}

Json receive() {
  const auto request = sync::receive_request_from(read_request());
  sync::TreeWriter tree(folder_fd);
  sync::build_walls(request.limits, folder_fd);
  static Stream stream;
  return to_json(sync::receive(
      request, stream, [](std::string_view bytes) { write_all(STDOUT_FILENO, bytes, Deadline::never()); }, tree,
      Teller()));
}

Json unpack() {
  const auto request = read_request();
  const sync::ArtifactLimits limits{require<std::uint64_t>(request, "bytes"), require<std::uint64_t>(request, "files")};
  sync::TreeWriter tree(folder_fd);
  sync::build_walls(limits, folder_fd);
  static Stream stream;
  try {
    const auto outcome = sync::unpack(stream, limits, tree);
    char rest[4096];  // tar fills its last record with zeros; a sender that cannot write them would fail
    while (read_some(STDIN_FILENO, rest, sizeof rest, Deadline::never()) > 0) {
    }
    return to_json(outcome);
  } catch (const Ended&) {
    return to_json(sync::UnpackOutcome{});  // its sender says why
  }
}

int answer(Json (*work)()) {
  try {
    say("verdict", work());
    return 0;
  } catch (const Error& error) {
    say("error", {{"code", to_string(error.code())}, {"message", error.what()}});
  } catch (const std::bad_alloc&) {
    say("error", {{"code", "operation-failed"}, {"message", "what is sent names more files than there is memory for"}});
  } catch (const std::exception& error) {
    say("error", {{"code", "operation-failed"}, {"message", error.what()}});
  }
  return 3;
}

}  // namespace

int main(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);
  if (argc == 2 && std::strcmp(argv[1], "--version") == 0) {
    std::puts("agentvm-artifacts " AGENTVM_VERSION);
    return 0;
  }
  if (argc == 2 && std::strcmp(argv[1], "receive") == 0) return answer(receive);
  if (argc == 2 && std::strcmp(argv[1], "unpack") == 0) return answer(unpack);
  std::fputs("usage: agentvm-artifacts receive|unpack   (started by agentvm; see docs/architecture.md)\n", stderr);
  return 64;
}
