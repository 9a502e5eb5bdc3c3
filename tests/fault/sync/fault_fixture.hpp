#pragma once
// A guest, a host and a driver that can be made to fail at its Nth call that changes a file.

#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/contract/sync/git_fixture.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::test {

/// Which processes fail: all of the host's, or those but for git. The confined children count always.
enum class Among { all, all_but_git };
enum class Fault { kill, no_space };

class FaultFixture : public testing::Test {
 protected:
  FaultFixture();

  struct Run {
    int code = 0, signal = 0, calls = 0, confined = 0;
    std::string said;
  };
  /// One step of the driver on host/, guest/ and scratch/ of `dir`. The guest's processes are gone when it returns.
  Run step(const std::string& name, int at = 0, Fault fault = Fault::no_space, Among among = Among::all);

  /// Host and guest as they are now are what each step of a sweep starts from.
  void keep_templates();
  void restore();

  /// `name` fails at each of its calls (outside the full tier: some `points` of them), each time from the templates,
  /// and `check` looks at what there is.
  void sweep(const std::string& name, Fault fault, Among among, int points,
             const std::function<void(const Run& failed)>& check);
  /// After a sync that went well: nothing of those before is left.
  void expect_nothing_left() const;

  TempDir dir;
  Repo host, guest;

 private:
  void wrap(const std::string& program) const;
};

}  // namespace agentvm::test
