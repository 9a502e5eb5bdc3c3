// One suite for everything that claims to be a Hypervisor: the fake, libvirt's test driver, the embedded driver.

#include <condition_variable>
#include <csignal>
#include <mutex>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/contract/virt/support.hpp"
#include "tests/support/fake_hypervisor.hpp"
#include "tests/support/temporary_folder.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/process.hpp"
#include "vmm/libvirt/embedded_root.hpp"

namespace agentvm::test {
namespace {

using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;
using Capability = HypervisorCapability;
using Kind = Hypervisor::Event::Kind;

/// A process can run one embedded root only, so the whole program shares this one.
const fs::path& shared_folder() {
  static const TemporaryFolder folder;
  static const bool made = (make_probe_guest(folder.path()), true);
  (void)made;
  return folder.path();
}

struct Candidate {
  const char* name;
  std::set<Capability> declared;
  std::function<std::shared_ptr<Hypervisor>()> open;
  friend std::ostream& operator<<(std::ostream& out, const Candidate& candidate) { return out << candidate.name; }
};

const Candidate candidates[] = {
    {"Fake", {Capability::events}, [] { return std::make_shared<FakeHypervisor>(); }},
    {"TestDriver",
     {Capability::events},
     [] {
       return open_libvirt({"test:///default", "/nonexistent", {}}, in_seconds(20));
     }},
    {"Embedded",
     {Capability::events, Capability::survives_close},
     [] {
       return open_libvirt({"auto", shared_folder() / "libvirt", find_machine_platform()}, in_seconds(30));
     }},
};

/// Events as they came, with waiting.
class Recorder {
 public:
  void operator()(const Hypervisor::Event& event) {
    const std::lock_guard lock(mutex_);
    events_.emplace_back(event.domain, event.kind);
    changed_.notify_all();
  }
  bool saw(const std::string& domain, Kind kind) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), [&] {
      return std::find(events_.begin(), events_.end(), std::pair(domain, kind)) != events_.end();
    });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::pair<std::string, Kind>> events_;
};

class HypervisorContract : public ::testing::TestWithParam<Candidate> {
 protected:
  void SetUp() override { hypervisor = GetParam().open(); }
  void TearDown() override {
    if (!hypervisor) return;
    for (const auto& name : started) hypervisor->stop(name, in_seconds(30));
    hypervisor->on_event({});
  }
  MachineSpec machine(const std::string& name) {
    started.push_back(name);
    return probe_machine(shared_folder(), name, "idle");
  }
  DomainState state(const std::string& name) { return hypervisor->find(name, in_seconds(20)).value().state; }
  bool can(Capability capability) const { return hypervisor->capabilities().contains(capability); }

  std::shared_ptr<Hypervisor> hypervisor;
  std::vector<std::string> started;
};

TEST_P(HypervisorContract, DeclaresExactlyItsCapabilities) {
  EXPECT_EQ(hypervisor->capabilities(), GetParam().declared);
}

TEST_P(HypervisorContract, StartsDescribesAndStops) {
  const auto spec = machine("avm-one");
  EXPECT_FALSE(hypervisor->find("avm-one", in_seconds(20)));
  hypervisor->start(spec, Hypervisor::Start::running, in_seconds(60));
  const auto found = hypervisor->find("avm-one", in_seconds(20));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->domain, "avm-one");
  EXPECT_EQ(found->id, spec.id);
  EXPECT_EQ(found->state, DomainState::running);
  hypervisor->stop("avm-one", in_seconds(30));
  EXPECT_FALSE(hypervisor->find("avm-one", in_seconds(20)));
  hypervisor->stop("avm-one", in_seconds(30));                          // gone already: success
  hypervisor->start(spec, Hypervisor::Start::running, in_seconds(60));  // nothing of the first is in the way
}

TEST_P(HypervisorContract, ListsOurs) {
  const auto one = machine("avm-one"), two = machine("avm-two");
  hypervisor->start(one, Hypervisor::Start::paused, in_seconds(60));
  hypervisor->start(two, Hypervisor::Start::paused, in_seconds(60));
  std::vector<std::string> ids;
  for (const auto& info : hypervisor->list(in_seconds(20)))
    if (!info.id.empty()) ids.push_back(info.id);
  EXPECT_THAT(ids, UnorderedElementsAre(one.id, two.id));
}

TEST_P(HypervisorContract, PausesAndResumes) {
  hypervisor->start(machine("avm-one"), Hypervisor::Start::paused, in_seconds(60));
  EXPECT_EQ(state("avm-one"), DomainState::paused);
  hypervisor->pause("avm-one", in_seconds(20));
  hypervisor->resume("avm-one", in_seconds(20));
  EXPECT_EQ(state("avm-one"), DomainState::running);
  hypervisor->resume("avm-one", in_seconds(20));
  hypervisor->pause("avm-one", in_seconds(20));
  EXPECT_EQ(state("avm-one"), DomainState::paused);
}

TEST_P(HypervisorContract, ASecondStartIsRefusedAndHarmsNothing) {
  const auto spec = machine("avm-one");
  hypervisor->start(spec, Hypervisor::Start::paused, in_seconds(60));
  auto other = spec;
  other.id = random_uuid();
  for (const auto& attempt : {spec, other}) {
    const auto error = error_of([&] { hypervisor->start(attempt, Hypervisor::Start::running, in_seconds(60)); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), ErrorCode::wrong_state);
  }
  EXPECT_EQ(hypervisor->find("avm-one", in_seconds(20))->id, spec.id);
  EXPECT_EQ(state("avm-one"), DomainState::paused);
}

TEST_P(HypervisorContract, AMissingMachineIsNotFound) {
  const auto code = [](auto action) { return error_of(action).value().code(); };
  EXPECT_EQ(code([&] { hypervisor->pause("avm-none", in_seconds(20)); }), ErrorCode::not_found);
  EXPECT_EQ(code([&] { hypervisor->resume("avm-none", in_seconds(20)); }), ErrorCode::not_found);
  EXPECT_EQ(code([&] { hypervisor->request_shutdown("avm-none", in_seconds(20)); }), ErrorCode::not_found);
  EXPECT_FALSE(hypervisor->pid("avm-none", in_seconds(20)));
}

TEST_P(HypervisorContract, ABadSpecificationLeavesNothing) {
  auto spec = machine("avm-one");
  spec.cmdline = "a\nb";
  EXPECT_EQ(error_of([&] { hypervisor->start(spec, Hypervisor::Start::running, in_seconds(60)); }).value().code(),
            ErrorCode::usage);
  EXPECT_FALSE(hypervisor->find("avm-one", in_seconds(20)));
}

TEST_P(HypervisorContract, AnExpiredDeadlineIsTimedOutAndLeavesNothing) {
  const auto spec = machine("avm-one");
  const auto error =
      error_of([&] { hypervisor->start(spec, Hypervisor::Start::running, Deadline::after(milliseconds(0))); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::timed_out);
  // A start that had begun is undone as soon as it is through.
  const auto gone = [&] { return !hypervisor->find("avm-one", in_seconds(20)); };
  for (int i = 0; i < 500 && !gone(); ++i) std::this_thread::sleep_for(milliseconds(20));
  EXPECT_TRUE(gone());
}

TEST_P(HypervisorContract, TellsEvents) {
  if (!can(Capability::events)) return;
  const auto recorder = std::make_shared<Recorder>();
  hypervisor->on_event([recorder](const Hypervisor::Event& event) { (*recorder)(event); });
  hypervisor->start(machine("avm-one"), Hypervisor::Start::running, in_seconds(60));
  hypervisor->pause("avm-one", in_seconds(20));
  EXPECT_TRUE(recorder->saw("avm-one", Kind::paused));
  hypervisor->resume("avm-one", in_seconds(20));
  EXPECT_TRUE(recorder->saw("avm-one", Kind::resumed));
  hypervisor->stop("avm-one", in_seconds(30));
  EXPECT_TRUE(recorder->saw("avm-one", Kind::stopped));
}

TEST_P(HypervisorContract, SurvivesClose) {
  if (!can(Capability::survives_close)) return;
  const auto spec = machine("avm-one");
  hypervisor->start(spec, Hypervisor::Start::paused, in_seconds(60));
  hypervisor.reset();
  hypervisor = GetParam().open();
  const auto found = hypervisor->find("avm-one", in_seconds(20));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->id, spec.id);
}

TEST_P(HypervisorContract, ServesManyThreads) {
  std::vector<MachineSpec> specs;
  for (int i = 0; i < 4; ++i) specs.push_back(machine("avm-t" + std::to_string(i)));
  std::vector<std::thread> threads;
  std::vector<std::optional<Error>> errors(specs.size());
  for (std::size_t i = 0; i < specs.size(); ++i)
    threads.emplace_back([&, i] {
      errors[i] = error_of([&] {
        hypervisor->start(specs[i], Hypervisor::Start::paused, in_seconds(90));
        hypervisor->resume(specs[i].domain, in_seconds(30));
        hypervisor->stop(specs[i].domain, in_seconds(30));
      });
    });
  for (auto& thread : threads) thread.join();
  for (const auto& error : errors) EXPECT_FALSE(error) << error->what();
  for (const auto& info : hypervisor->list(in_seconds(20))) EXPECT_THAT(info.id, IsEmpty()) << info.domain;
}

INSTANTIATE_TEST_SUITE_P(All, HypervisorContract, ::testing::ValuesIn(candidates),
                         [](const auto& row) { return std::string(row.param.name); });

TEST(EmbeddedHypervisor, AKilledEmulatorIsACrash) {
  const auto hypervisor = candidates[2].open();
  const auto recorder = std::make_shared<Recorder>();
  hypervisor->on_event([recorder](const Hypervisor::Event& event) { (*recorder)(event); });
  hypervisor->start(probe_machine(shared_folder(), "avm-crash", "idle"), Hypervisor::Start::running, in_seconds(60));
  const auto pid = hypervisor->pid("avm-crash", in_seconds(5));
  ASSERT_TRUE(pid);
  ::kill(*pid, SIGKILL);
  EXPECT_TRUE(recorder->saw("avm-crash", Kind::crashed));
  EXPECT_FALSE(hypervisor->find("avm-crash", in_seconds(20)));
  EXPECT_FALSE(hypervisor->pid("avm-crash", in_seconds(5)));
}

TEST(EmbeddedHypervisor, TheEmulatorRunsConfined) {
  const auto hypervisor = candidates[2].open();
  hypervisor->start(probe_machine(shared_folder(), "avm-confined", "idle"), Hypervisor::Start::paused, in_seconds(60));
  const auto pid = hypervisor->pid("avm-confined", in_seconds(5)).value();
  const auto status = read_file("/proc/" + std::to_string(pid) + "/status", 65536);
  const auto limits = read_file("/proc/" + std::to_string(pid) + "/limits", 65536);
  hypervisor->stop("avm-confined", in_seconds(30));
  EXPECT_EQ(status.substr(status.find("\nSeccomp:"), 11), "\nSeccomp:\t2");
  EXPECT_NE(status.find("\nCapEff:\t0000000000000000"), std::string::npos);
  EXPECT_NE(limits.find("Max core file size        0 "), std::string::npos);
}

TEST(EmbeddedHypervisor, AThreadThatStartsEmulatorsGivesThemNothingAndKeepsWhatLibvirtNeeds) {
  if (::geteuid() != 0) GTEST_SKIP() << "not root here: there is no capability to give or to keep";
  std::string executed;
  int kept = -1;
  std::thread([&] {
    libvirt::drop_capabilities_of_children();
    ProcessSpec spec;
    spec.argv = {"cat", "/proc/self/status"};
    executed = run(spec, in_seconds(10)).out;
    // What libvirt does in its child before it executes an emulator to ask it for its features.
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    const std::uint32_t wanted = 1u << CAP_SETPCAP;
    __user_cap_data_struct sets[2] = {{wanted, wanted, wanted}, {0, 0, 0}};
    kept = static_cast<int>(::syscall(SYS_capset, &header, sets));
  }).join();
  EXPECT_EQ(kept, 0);
  for (const char* set : {"\nCapPrm:", "\nCapEff:", "\nCapAmb:"})
    EXPECT_NE(executed.find(std::string(set) + "\t0000000000000000"), std::string::npos) << set << executed;
}

TEST(EmbeddedHypervisor, OneRootPerProcess) {
  const auto hypervisor = candidates[2].open();
  const TemporaryFolder other;
  const auto error = error_of([&] {
    open_libvirt({"embed", other / "libvirt", find_machine_platform()}, in_seconds(5));
  });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::wrong_state);
}

TEST(OpenLibvirt, OtherUrisAreRefused) {
  for (const char* uri : {"", "qemu+ssh://host/system", "xen:///", "qemu:///embed?root=/somewhere/else"})
    EXPECT_EQ(error_of([&] {
                open_libvirt({uri, "/nonexistent", {}}, in_seconds(5));
              })
                  .value()
                  .code(),
              ErrorCode::usage)
        << uri;
}

TEST(OpenLibvirt, ARootTooLongForSocketsIsRefusedWithTheRemedy) {
  const fs::path root = "/" + std::string(60, 'r');
  const auto error = error_of([&] { open_libvirt({"embed", root, {}}, in_seconds(5)); });
  ASSERT_TRUE(error);
  EXPECT_THAT(error->hint(), ::testing::HasSubstr("AGENTVM_HOME"));
}

}  // namespace
}  // namespace agentvm::test
