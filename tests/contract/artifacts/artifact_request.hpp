#pragma once
// What a sync of build products is asked for in these tests.

#include "sync/artifacts/artifacts.hpp"

namespace agentvm::test {

/// `dist` of the folder `guest`, by our own sender on this host, into `dir`/host. AGENTVM_TEST_LIBEXEC names our
/// programs.
inline sync::ArtifactRequest artifact_request(const fs::path& dir, const fs::path& guest) {
  const fs::path libexec = AGENTVM_TEST_LIBEXEC;
  sync::ArtifactRequest request;
  request.destination = dir / "host";
  request.forbidden = dir / "state";
  request.libexec = libexec;
  request.scratch = dir / "state/sync";
  request.guest_program = (libexec / "agentvm-guest").string();
  request.guest_path = guest.string();
  request.sandbox = "box";
  request.globs = {"dist"};
  return request;
}

}  // namespace agentvm::test
