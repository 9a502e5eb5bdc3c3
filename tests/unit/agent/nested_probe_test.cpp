// A virtual machine in the guest: tried by the agent, told to the host, checked there.
#include "guest/agent/nested_probe.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "guest/control/nested.hpp"
#include "tests/support/temporary_folder.hpp"
#include "vmm/base/kvm_loop.hpp"

namespace agentvm::guest {
namespace {

using test::error_of;
using testing::HasSubstr;

ControlResult answer(const std::string& out, int code = 0, int signal = 0) {
  ControlResult result;
  result.out = out;
  result.code = code;
  result.signal = signal;
  return result;
}

TEST(NestedProbe, RunsOrSaysWhyItDidNot) {
  const bool device = ::access("/dev/kvm", R_OK | W_OK) == 0;
  const auto told = parse_nested_probe(answer(dump_json(agent::probe_nested())));
  EXPECT_NE(told.ran, !told.reason.empty());
  EXPECT_EQ(told.ran, told.ratio > 0);
  EXPECT_TRUE(device || told.reason.find("/dev/kvm") != std::string::npos) << told.reason;
}

TEST(NestedProbe, CountingTakesTime) {
  EXPECT_GT(count_here(50'000'000), count_here(5));
}

TEST(NestedProbe, TheAnswerIsChecked) {
  const auto good = parse_nested_probe(answer(R"({"ran": true, "here_ns": 300, "inside_ns": 600, "exit_ns": 1500})"));
  EXPECT_TRUE(good.ran);
  EXPECT_DOUBLE_EQ(good.ratio, 0.5);
  EXPECT_EQ(good.exit_nanoseconds, 1500);
  EXPECT_EQ(parse_nested_probe(answer(R"({"ran": true, "here_ns": 1, "inside_ns": 0, "exit_ns": 0})")).ratio, 0);
  const auto refused = parse_nested_probe(answer(R"({"ran": false, "reason": "no\u001b[2J"})"));
  EXPECT_EQ(refused.reason.find('\x1b'), std::string::npos);
  for (const char* bad : {"", "x", "[]", R"({"ran": 1})", R"({"ran": false})", R"({"ran": true})",
                          R"({"ran": true, "here_ns": -1, "inside_ns": 1, "exit_ns": 1})",
                          R"({"ran": true, "here_ns": 1, "inside_ns": 9000000000000000000, "exit_ns": 1})",
                          R"({"ran": true, "here_ns": "1", "inside_ns": 1, "exit_ns": 1})"})
    EXPECT_TRUE(error_of([&] { parse_nested_probe(answer(bad)); })) << bad;
  EXPECT_THAT(error_of([&] { parse_nested_probe(answer("", 0, 14)); })->message(), HasSubstr("hangs"));
  EXPECT_THAT(error_of([&] { parse_nested_probe(answer("", 64)); })->message(), HasSubstr("failed"));
}

}  // namespace
}  // namespace agentvm::guest
