// What is done to a machine from a template, in which order, and what stays when it fails.

#include "guest/agent/adopt.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::guest::agent {
namespace {

using ::testing::ElementsAre;

struct Machine {
  Machine() {
    steps.reseed = [this](std::string_view bytes) {
      done.push_back("reseed");
      entropy = bytes;
    };
    steps.set_clock = [this](std::int64_t) { done.push_back("clock"); };
    steps.set_hostname = [this](const std::string& name) { done.push_back("hostname " + name); };
    steps.show_boot_id = [this](const fs::path&) { done.push_back("boot id"); };
    steps.configure_network = [this](const GuestNetwork&) { done.push_back("network"); };
    steps.begin_workspace = [this](const Identity&) { done.push_back("workspace"); };
    steps.begin_nested = [this](const Identity&) { done.push_back("nested"); };
    steps.open_way_in = [this] {
      EXPECT_EQ(read_file(root / "etc/ssh/ssh_host_ed25519_key"), "private\n") << "before anybody may come in";
      done.push_back("way in");
    };
    fs::create_directories(root / "etc/ssh");
    write_file_atomic(root / "etc/passwd", "agent:x:1000:1000::/home/agent:/bin/bash\n");
    write_file_atomic(root / "etc/machine-id", std::string(32, 'f') + "\n");
    fs::create_directories(root / "var/lib/systemd");
    write_file_atomic(root / "var/lib/systemd/random-seed", "the template's");
  }
  std::string adopt(const Identity& identity) { return adopt_identity(root.path(), identity, steps); }

  test::TemporaryFolder root;
  AdoptionSteps steps;
  std::vector<std::string> done;
  std::string entropy;
};

Identity identity() {
  Identity result;
  result.hostname = "box";
  result.machine_id = std::string(32, 'a');
  result.host_key_private = "private\n";
  result.host_key_public = "public\n";
  result.authorized_keys = "client\n";
  result.network = GuestNetwork();
  result.unix_ns = 1;
  result.nested = true;
  result.entropy = std::string(64, 'r');
  return result;
}

TEST(Adopt, RandomnessComesFirstAndTheWayInWhenAllElseIsThere) {
  Machine machine;
  const auto boot_id = machine.adopt(identity());
  EXPECT_THAT(machine.done,
              ElementsAre("reseed", "clock", "boot id", "hostname box", "network", "workspace", "way in", "nested"));
  EXPECT_EQ(machine.entropy, identity().entropy);
  EXPECT_EQ(read_file(machine.root / "run/agentvm/boot_id"), boot_id + "\n");
  EXPECT_EQ(boot_id.size(), 36U);
}

TEST(Adopt, NothingOfTheTemplatesIdentityIsLeft) {
  Machine machine;
  machine.adopt(identity());
  EXPECT_EQ(read_file(machine.root / "etc/machine-id"), std::string(32, 'a') + "\n");
  EXPECT_EQ(read_file(machine.root / "etc/hostname"), "box\n");
  EXPECT_EQ(read_file(machine.root / "home/agent/.ssh/authorized_keys"), "client\n");
  EXPECT_NE(read_file(machine.root / "var/lib/systemd/random-seed"), "the template's");
  Machine other;
  EXPECT_NE(other.adopt(identity()), machine.adopt(identity())) << "every boot id is new";
  EXPECT_NE(read_file(machine.root / "var/lib/systemd/random-seed"),
            read_file(other.root / "var/lib/systemd/random-seed"));
}

TEST(Adopt, WithoutRandomBytesOrKeysNothingIsDone) {
  for (const auto& change :
       std::vector<std::function<void(Identity&)>>{[](Identity& wanted) { wanted.entropy.pop_back(); },
                                                   [](Identity& wanted) { wanted.host_key_private.clear(); },
                                                   [](Identity& wanted) { wanted.authorized_keys.clear(); }}) {
    Machine machine;
    auto wanted = identity();
    change(wanted);
    const auto error = test::error_of([&] { machine.adopt(wanted); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), ErrorCode::usage);
    EXPECT_TRUE(machine.done.empty());
  }
}

TEST(Adopt, AStepThatFailsIsNamedAndNobodyComesIn) {
  Machine machine;
  machine.steps.configure_network = [](const GuestNetwork&) {
    throw Error(ErrorCode::timed_out, "no network interface appeared");
  };
  const auto error = test::error_of([&] { machine.adopt(identity()); });
  ASSERT_TRUE(error);
  EXPECT_EQ(std::string(error->what()), "configuring the network: no network interface appeared");
  EXPECT_EQ(std::count(machine.done.begin(), machine.done.end(), "way in"), 0);
}

}  // namespace
}  // namespace agentvm::guest::agent
