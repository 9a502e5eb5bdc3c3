// One step of a sync as a process that can be killed: driver STEP HOST GUEST SCRATCH LIBEXEC. The guest is this
// machine, but for the shim: what runs there is not killed with its host, and has disk space.

#include <cstdio>
#include <cstring>

#include <unistd.h>

#include "sync/artifacts/artifacts.hpp"
#include "sync/snapshot.hpp"
#include "sync/sync.hpp"
#include "sync/wip_apply.hpp"
#include "tests/support/fake_streams.hpp"
#include "tests/support/loose_reader.hpp"

namespace {

using namespace agentvm;
using namespace agentvm::sync;

struct Places {
  fs::path host, guest, scratch, libexec;
};

Deadline limit() {
  return Deadline::after(std::chrono::seconds(60));
}

/// Processes of the guest hold a lock, so that the test can see the last of them end.
class Guest : public test::FakeStreams {
 public:
  explicit Guest(const fs::path& lock) : lock_(lock) {}
  std::unique_ptr<guest::Exec> exec(const guest::ExecSpec& spec, Deadline deadline) override {
    auto there = spec;
    there.argv = {"env",    "-u",    "LD_PRELOAD", "-u",        "AGENTVM_FAULT_PLAN",
                  "setsid", "flock", "--shared",   "--no-fork", lock_};
    there.argv.insert(there.argv.end(), spec.argv.begin(), spec.argv.end());
    return FakeStreams::exec(there, deadline);
  }

 private:
  std::string lock_;
};

int bring(const Places& at, Guest& streams, Move move, bool loose = false) {
  SyncRequest request{.repository = at.host,
                      .sandbox = SandboxName::parse("box"),
                      .guest_path = at.guest,
                      .libexec = at.libexec,
                      .scratch = at.scratch,
                      .move = move};
  if (loose) request.loose = test::reader_of(at.guest);
  const auto outcome = sync_now(request, streams, no_progress(), limit());
  if (loose && !streams.executed().empty()) std::fputs("git was asked\n", stderr);
  std::fputs(to_text(outcome).c_str(), stderr);
  return outcome.pushed && !outcome.pushed->done ? 3 : outcome.exit_code();
}

int snapshot(const Places& at, guest::Streams& streams) {
  const SnapshotRequest request{.repository = at.host,
                                .sandbox = SandboxName::parse("box"),
                                .libexec = at.libexec,
                                .scratch = at.scratch,
                                .guest_path = at.guest,
                                .guest_store = at.guest.string() + "-store"};
  return take_snapshots(request, streams, no_progress(), limit()).refs.size() == 1 ? 0 : 3;
}

int apply(const Places& at) {
  const auto entries = list_wip(HostGit(at.host), "box", limit());
  const auto outcome = apply_wip({.repository = at.host, .entry = entries.at(0), .scratch = at.scratch}, limit());
  std::fputs(outcome.reason.c_str(), stderr);
  return outcome.exit_code();
}

int artifacts(const Places& at, guest::Streams& streams) {
  ArtifactRequest request;
  request.destination = at.host;
  request.forbidden = at.scratch;
  request.libexec = at.libexec;
  request.scratch = at.scratch;
  request.guest_program = at.libexec / "agentvm-guest";
  request.guest_path = at.guest;
  request.sandbox = "box";
  request.globs = {"dist"};
  return fetch_artifacts(request, streams, no_progress(), {}, limit()).gated() ? 6 : 0;
}

}  // namespace

int main(int count, char** words) {
  if (count != 6) return 64;
  ::setpgid(0, 0);
  const Places at{words[2], words[3], words[4], words[5]};
  const std::string_view step = words[1];
  try {
    Guest streams(at.guest.string() + ".busy");
    if (step == "references") return bring(at, streams, Move::references_only);
    if (step == "loose") return bring(at, streams, Move::references_only, true);
    if (step == "sync") return bring(at, streams, Move::by_branch_rule);
    if (step == "snapshot") return snapshot(at, streams);
    if (step == "apply") return apply(at);
    if (step == "artifacts") return artifacts(at, streams);
    return 64;
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 3;
  }
}
