#include "guest/control/console.hpp"

#include <string>

#include <gtest/gtest.h>

namespace agentvm::guest {
namespace {

TEST(Console, TheSecondReportOfALockupIsAHang) {
  const std::string first = "[   29.168309] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [agent:97]\r\n";
  const std::string other = "[   29.268161] watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [systemd:1]\r\n";
  const std::string second = "[   57.168238] watchdog: BUG: soft lockup - CPU#0 stuck for 52s! [agent:97]\r\n";
  EXPECT_FALSE(cpus_hang("starting /sbin/init\r\n" + first + other)) << "it may be slow";
  EXPECT_TRUE(cpus_hang(first + other + second));
  EXPECT_TRUE(cpus_hang(second + "more\r\n"));
}

TEST(Console, WhateverElseAGuestPrintsIsNone) {
  for (const std::string text :
       {"", "soft lockup - CPU#", "soft lockup - CPU#0", "soft lockup - CPU#0\n stuck for 52s!",
        "soft lockup - CPU#0 stuck for ", "soft lockup - CPU#0 stuck for x52s", "stuck for 52s!",
        "soft lockup - CPU#0 stuck for 99999999999999999999999999s!", "soft lockup - CPU#0 stuck for -52s!",
        "soft lockup - CPU#soft lockup - CPU#"})
    EXPECT_FALSE(cpus_hang(text)) << text;
}

}  // namespace
}  // namespace agentvm::guest
