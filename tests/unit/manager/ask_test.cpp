// `egress.ask` through the manager's parts: what a held connection does to status, list, journal and `notify`.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "cli/manager/ops/core.hpp"
#include "cli/manager/ops/egress_ops.hpp"
#include "cli/manager/ops/egress_policy.hpp"
#include "cli/manager/ops/status.hpp"
#include "tests/support/records.hpp"
#include "tests/support/temporary_folder.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::manager {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class AskTest : public testing::Test {
 protected:
  AskTest() {
    const Paths paths{.config_file = folder_ / "config.yaml",
                      .state = folder_ / "state",
                      .data = folder_ / "data",
                      .runtime = folder_ / "runtime",
                      .libexec = folder_ / "libexec"};
    write_file_atomic(paths.config_file,
                      "notify: 'echo \"$AGENTVM_EVENT $AGENTVM_SANDBOX $AGENTVM_HOST: "
                      "$AGENTVM_MESSAGE\" >>" +
                          told_.string() + "'\n");
    core_ = std::make_unique<Core>(paths);
    auto record = test::full_record("box");
    record.state = SandboxState::stopped;
    record.network = NetworkMode::filtered;
    record.virtiofsd.reset();
    record.boot.reset();
    record.egress_presets.clear();
    record.egress_deny = {"*.evil.test"};
    record.egress_own_deny.clear();
    record.egress_ask = true;
    name_ = core_->store().create(record).name;
    core_->journal().add(name_.str(), folder_ / "egress.jsonl");
    apply_egress_policy(*core_, name_);
  }
  UniqueFd request(const std::string& host) {
    FdPair pair = make_socketpair();
    core_->egress().serve(std::move(pair.second), name_.str());
    write_all(pair.first.get(), "CONNECT " + host + ":443 HTTP/1.1\r\nHost: " + host + ":443\r\n\r\n", soon());
    return std::move(pair.first);
  }
  static std::string read_to_end(const UniqueFd& fd) {
    std::string text;
    char buffer[4096];
    while (const auto size = read_some(fd.get(), buffer, sizeof buffer, soon())) text.append(buffer, size);
    return text;
  }
  Json waiting() { return waiting_names(*core_, core_->store().get(name_)); }
  static Deadline soon() { return Deadline::after(milliseconds(15'000)); }
  template <class Probe>
  static bool eventually(const Probe& probe) {
    for (const auto deadline = soon(); !deadline.expired(); ::usleep(2000))
      if (probe()) return true;
    return false;
  }

  const test::TemporaryFolder folder_;
  const fs::path told_ = folder_ / "told";
  std::unique_ptr<Core> core_;
  SandboxName name_ = SandboxName::parse("box");
};

TEST_F(AskTest, WhatWaitsIsInStatusAndListAndTheUsersCommandIsRun) {
  EXPECT_THAT(read_to_end(request("a.evil.test")), HasSubstr("is denied by"));
  const auto first = request("Asked.TEST."), second = request("asked.test");
  ASSERT_TRUE(eventually([&] { return !waiting().empty() && waiting()[0]["connections"] == 2; }));
  EXPECT_EQ(waiting()[0]["rule"], "asked.test");
  EXPECT_EQ(egress_status(*core_, core_->store().get(name_))["waiting"], waiting());
  EXPECT_EQ(egress_status(*core_, core_->store().get(name_))["ask"], true);
  EXPECT_EQ(list_sandboxes(*core_, "")["sandboxes"][0]["egress_waiting"], waiting());
  const std::string line =
      "asked box asked.test: 'box' waits to reach asked.test (agentvm egress allow box asked.test)\n";
  EXPECT_TRUE(eventually([&] { return fs::exists(told_) && read_file(told_, 4096) == line; }));

  core_->store().update(name_, [](SandboxRecord& record) { record.egress_own_deny = {"asked.test"}; });
  apply_egress_policy(*core_, name_);
  for (const auto* fd : {&first, &second})
    EXPECT_THAT(read_to_end(*fd), HasSubstr("is denied by asked.test (agentvm egress deny)"));
  ASSERT_TRUE(eventually([&] { return core_->journal().counts(name_.str())->denied == 3; }));
  EXPECT_THAT(waiting(), IsEmpty());
  core_->journal().flush();
  const auto entries = egress::read_journal(folder_ / "egress.jsonl");
  ASSERT_THAT(entries, SizeIs(4));
  EXPECT_EQ(entries[1].event, egress::JournalEntry::Event::held);
  EXPECT_EQ(entries[1].decision.reason, "waits for you: agentvm egress allow box asked.test");
  EXPECT_EQ(read_file(told_, 4096), line);
}

TEST_F(AskTest, TheManagersEndLetsThemGo) {
  const auto fd = request("asked.test");
  ASSERT_TRUE(eventually([&] { return !waiting().empty(); }));
  core_->shut_down();
  EXPECT_EQ(read_to_end(fd), "");
  EXPECT_THAT(waiting(), IsEmpty());
}

}  // namespace
}  // namespace agentvm::manager
