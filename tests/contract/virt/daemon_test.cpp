// The contract on real daemons: the system's where the test runs as root, and a user's session. As root the session
// part runs in a process of this program that belongs to a user made for it: libvirt gives root none.

#include <algorithm>
#include <csignal>
#include <iostream>
#include <mutex>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/contract/virt/daemons.hpp"
#include "tests/contract/virt/hypervisor_contract.hpp"
#include "tests/support/temporary_folder.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"

// Where libvirtd is not installed there is no candidate, and Daemons.AreInstalled says so.
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(HypervisorContract);

namespace agentvm::test {
namespace {

using Capability = HypervisorCapability;

const char* const system_uri = "qemu:///system";
const char* const session_uri = "qemu:///session";

bool as_root() {
  return ::geteuid() == 0;
}
const char* own_uri() {
  return as_root() ? system_uri : session_uri;
}

/// Of the parent, when this process is its session part.
fs::path given_folder;

std::shared_ptr<Hypervisor> open_own() {
  return open_libvirt({own_uri(), "/nonexistent", find_machine_platform()}, in_seconds(30));
}

}  // namespace

const fs::path& shared_folder() {
  static const std::optional<TemporaryFolder> made =
      given_folder.empty() ? std::make_optional<TemporaryFolder>() : std::nullopt;
  static const fs::path folder = made ? made->path() : given_folder;
  return folder;
}

std::vector<Candidate> contract_candidates() {
  if (libvirt_daemon().empty()) return {};
  return {{as_root() ? "System" : "Session", {Capability::events, Capability::survives_close}, open_own}};
}

namespace {

TEST(Daemons, AreInstalled) {
  if (libvirt_daemon().empty())
    GTEST_SKIP() << "libvirtd is not installed (package libvirt-daemon): nothing was tested";
}

TEST(Daemons, TheEmulatorRunsAsWhoeverAskedAndConfined) {
  if (libvirt_daemon().empty()) GTEST_SKIP() << "libvirtd is not installed";
  const auto hypervisor = open_own();
  hypervisor->start(probe_machine(shared_folder(), "avm-own", "idle"), Hypervisor::Start::paused, in_seconds(60));
  const auto pid = hypervisor->pid("avm-own", in_seconds(5));
  const auto status = pid ? read_file("/proc/" + std::to_string(*pid) + "/status", 65536) : "";
  hypervisor->stop("avm-own", in_seconds(30));
  ASSERT_TRUE(pid);
  const auto uid = std::to_string(::geteuid());
  EXPECT_NE(status.find("\nUid:\t" + uid + "\t" + uid + "\t"), std::string::npos) << status;
  // Root's emulator gets its capabilities back when it is executed; the daemon knows no way around it, as our embedded
  // driver does. A start warns of it.
  if (!as_root()) {
    EXPECT_NE(status.find("\nCapEff:\t0000000000000000"), std::string::npos) << status;
  }
  EXPECT_NE(status.find("\nSeccomp:\t2"), std::string::npos) << status;
}

TEST(Daemons, NoDefinitionOutlivesTheMachine) {
  if (libvirt_daemon().empty()) GTEST_SKIP() << "libvirtd is not installed";
  const auto hypervisor = open_own();
  hypervisor->start(probe_machine(shared_folder(), "avm-killed", "idle"), Hypervisor::Start::running, in_seconds(60));
  ::kill(hypervisor->pid("avm-killed", in_seconds(5)).value(), SIGKILL);
  const auto gone = [&] { return !hypervisor->find("avm-killed", in_seconds(20)); };
  for (int i = 0; i < 500 && !gone(); ++i) ::usleep(20'000);
  EXPECT_TRUE(gone());
}

/// The daemon of the whole program.
std::optional<Daemon> daemon_here;

void start_daemon() {
  daemon_here.emplace(as_root() ? Daemon::Scope::system : Daemon::Scope::session, shared_folder());
}

TEST(Daemons, OneThatIsRestartedIsFoundAgain) {
  if (libvirt_daemon().empty()) GTEST_SKIP() << "libvirtd is not installed";
  using Kind = Hypervisor::Event::Kind;
  const auto hypervisor = open_own();
  std::mutex mutex;
  std::vector<std::pair<std::string, Kind>> told;
  hypervisor->on_event([&](const Hypervisor::Event& event) {
    const std::lock_guard lock(mutex);
    told.emplace_back(event.domain, event.kind);
  });
  const auto heard = [&](const std::string& domain, Kind kind) {
    for (int i = 0; i < 1000; ++i, ::usleep(20'000)) {
      const std::lock_guard lock(mutex);
      if (std::count(told.begin(), told.end(), std::pair(domain, kind)) > 0) return true;
    }
    return false;
  };
  for (const char* name : {"avm-stays", "avm-goes"})
    hypervisor->start(probe_machine(shared_folder(), name, "idle"), Hypervisor::Start::running, in_seconds(60));
  const auto goes = hypervisor->pid("avm-goes", in_seconds(5)).value();
  daemon_here.reset();
  ::kill(goes, SIGKILL);
  // Nothing answers: each call ends by its deadline, with the daemon's name.
  try {
    hypervisor->find("avm-stays", in_seconds(2));
    ADD_FAILURE() << "who answered?";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr(hypervisor->uri()));
  }
  start_daemon();
  EXPECT_TRUE(heard("", Kind::reconnected));
  ASSERT_TRUE(hypervisor->find("avm-stays", in_seconds(20)));
  EXPECT_EQ(hypervisor->find("avm-stays", in_seconds(20))->state, DomainState::running);
  EXPECT_FALSE(hypervisor->find("avm-goes", in_seconds(20)));
  // And what happens from here on is told again. First what has to wait until the daemon has found back to the machine:
  // of one that ends sooner it tells nothing.
  hypervisor->pause("avm-stays", in_seconds(20));
  EXPECT_TRUE(heard("avm-stays", Kind::paused));
  hypervisor->stop("avm-stays", in_seconds(20));
  EXPECT_TRUE(heard("avm-stays", Kind::destroyed));
  hypervisor->on_event({});
  if (HasFailure())
    for (const auto& [domain, kind] : told) std::cerr << "told of " << domain << ": " << static_cast<int>(kind) << "\n";
}

TEST(Daemons, TheContractHoldsForAUserToo) {
  if (libvirt_daemon().empty()) GTEST_SKIP() << "libvirtd is not installed";
  if (!as_root()) return;  // this process is the user's
  const ThrowawayUser user;
  const auto ids = user.ids();
  const TemporaryFolder folder;
  make_probe_guest(folder.path());
  check_errno(::chown(folder.path().c_str(), ids.uid, ids.gid), "chown");
  auto spec = helper_process({}, ids);
  spec.argv = {"/proc/self/exe", "--session", folder.path(), "--gtest_brief=1"};
  const auto result = run(spec, in_seconds(300));
  EXPECT_TRUE(result.status.ok()) << result.status.describe() << "\n" << result.out << result.err;
}

/// The daemon comes before any thread, and is gone before its folder is.
class Environment : public ::testing::Environment {
 public:
  void SetUp() override {
    if (!libvirt_daemon().empty()) start_daemon();
  }
  void TearDown() override { daemon_here.reset(); }
};

void prepare() {
  if (libvirt_daemon().empty()) return;
  if (given_folder.empty()) make_probe_guest(shared_folder());
  if (as_root())
    hide_system_daemon(shared_folder());
  else
    use_session_folders(shared_folder());
}

}  // namespace
}  // namespace agentvm::test

int main(int count, char** values) {
  if (count > 2 && std::string(values[1]) == "--reaper") return agentvm::test::run_reaper(values + 2);
  ::signal(SIGPIPE, SIG_IGN);
  ::testing::InitGoogleMock(&count, values);
  if (count > 2 && std::string(values[1]) == "--session") agentvm::test::given_folder = values[2];
  agentvm::test::prepare();
  ::testing::AddGlobalTestEnvironment(new agentvm::test::Environment);
  return RUN_ALL_TESTS();
}
