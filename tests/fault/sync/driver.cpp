// One sync of references as a process that can be killed: driver HOST GUEST SCRATCH LIBEXEC. The guest is this machine.

#include <cstdio>

#include <unistd.h>

#include "sync/sync.hpp"
#include "tests/support/fake_streams.hpp"

int main(int count, char** words) {
  if (count != 5) return 64;
  ::setpgid(0, 0);
  using namespace agentvm;
  try {
    test::FakeStreams streams;
    const sync::SyncRequest request{.repository = words[1],
                                    .sandbox = SandboxName::parse("box"),
                                    .guest_path = words[2],
                                    .libexec = words[4],
                                    .scratch = words[3],
                                    .move = sync::Move::references_only};
    sync::sync_now(request, streams, no_progress(), Deadline::after(std::chrono::seconds(60)));
    return 0;
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 3;
  }
}
