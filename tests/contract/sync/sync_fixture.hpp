#pragma once
// A repository of the host with one commit, its clone that plays the guest's, and the request that syncs them.

#include <gtest/gtest.h>

#include "sync/sync.hpp"
#include "tests/contract/sync/git_fixture.hpp"

namespace agentvm::test {

class HostAndGuest : public testing::Test {
 protected:
  explicit HostAndGuest(const std::string& file = "a.txt", const std::string& content = "one\n")
      : host(Repo::init(dir / "host")), guest(dir / "guest") {
    host.commit(file, content, "first");
    guest = Repo::clone(host, dir / "guest");
  }

  sync::SyncRequest request() {
    return {.repository = host.path(),
            .sandbox = SandboxName::parse("box"),
            .guest_path = guest.path().string(),
            .libexec = AGENTVM_TEST_LIBEXEC,
            .scratch = dir / "scratch"};
  }

  TempDir dir;
  Repo host, guest;
};

}  // namespace agentvm::test
