#include "tests/contract/virt/hypervisor_contract.hpp"

#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.hpp"
#include "vmm/base/error.hpp"

namespace agentvm::test {
namespace {

using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;
using Capability = HypervisorCapability;
using Kind = Hypervisor::Event::Kind;

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
  EXPECT_EQ(found->home, spec.home);
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

TEST_P(HypervisorContract, WhatIsNotDeclaredIsRefused) {
  if (can(Capability::state)) return;
  hypervisor->start(machine("avm-one"), Hypervisor::Start::paused, in_seconds(60));
  const auto folder = shared_folder();
  const MachineState state{folder / "devices", folder / "memory", folder / "transfer"};
  const auto code = [](auto action) { return error_of(action).value().code(); };
  EXPECT_EQ(code([&] { hypervisor->save_state("avm-one", state, in_seconds(20)); }), ErrorCode::host_lacks);
  EXPECT_EQ(code([&] { hypervisor->load_state("avm-one", state, in_seconds(20)); }), ErrorCode::host_lacks);
  if (can(Capability::hot_plug)) return;
  EXPECT_EQ(code([&] { hypervisor->plug("avm-one", {"tag", folder / "fs"}, in_seconds(20)); }), ErrorCode::host_lacks);
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
  EXPECT_TRUE(recorder->saw("avm-one", Kind::destroyed));
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

INSTANTIATE_TEST_SUITE_P(All, HypervisorContract, ::testing::ValuesIn(contract_candidates()),
                         [](const auto& row) { return row.param.name; });

}  // namespace
}  // namespace agentvm::test
