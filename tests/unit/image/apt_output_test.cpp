#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "guest/image/bootstrap.hpp"

namespace agentvm {
namespace {

using ::testing::HasSubstr;

TEST(AptProgress, GrowsFromListsToPackagesAndNeverBack) {
  std::vector<ProgressEvent> events;
  const Progress collect = [&](const ProgressEvent& event) { events.push_back(event); };
  AptProgress apt(collect);
  apt.line("Get:1 http://mirror.example/debian bookworm InRelease");
  apt.line("0 upgraded, 80 newly installed, 0 to remove and 0 not upgraded.");
  for (int i = 0; i < 80; ++i) apt.line("Unpacking package:amd64 (1.0) ...");
  for (int i = 0; i < 80; ++i) apt.line("Setting up package:amd64 (1.0) ...");
  apt.line("0 upgraded, 80 newly installed, 0 to remove and 0 not upgraded.");
  for (int i = 0; i < 400; ++i) apt.line("Setting up package:amd64 (1.0) ...");
  ASSERT_GT(events.size(), 10u);
  for (std::size_t i = 1; i < events.size(); ++i) EXPECT_GT(events[i].percent, events[i - 1].percent);
  EXPECT_EQ(events.front().percent, 5);
  EXPECT_EQ(events.back().percent, 80);
  EXPECT_EQ(events.back().step, "image-packages");
}

TEST(AptFailure, NamesTheCauseAndTheLog) {
  const auto missing =
      explain_failure("I: x\nE: Unable to locate package gti\nE: apt-get failed\n", "failed", "/var/log/b.log");
  EXPECT_EQ(missing.code(), ErrorCode::operation_failed);
  EXPECT_EQ(missing.message(), "failed: E: Unable to locate package gti");
  EXPECT_EQ(missing.hint(), "less /var/log/b.log");
}

TEST(AptFailure, AFullDiskIsTheHosts) {
  for (const auto* log : {"dpkg: error processing archive: No space left on device\nE: x\n",
                          "mke2fs: Could not allocate block in ext2 filesystem\n"}) {
    const auto error = explain_failure(log, "failed", "/data/images/b.log");
    EXPECT_EQ(error.code(), ErrorCode::host_lacks);
    EXPECT_THAT(error.message(), HasSubstr("the disk is full"));
    EXPECT_EQ(error.hint(), "df -h /data/images");
  }
}

TEST(AptFailure, AMirrorWithAPasswordIsExplained) {
  const auto error = explain_failure(
      "Err:1 https://mirror.example bookworm InRelease\n  401  Unauthorized [IP: 192.0.2.1 443]\n", "failed", "/l");
  EXPECT_EQ(error.code(), ErrorCode::host_lacks);
  EXPECT_THAT(error.message(), HasSubstr("credentials of the host never enter an image"));
}

TEST(AptFailure, ASourceThatCannotBeReachedIsTheHosts) {
  for (const std::string why : {"Temporary failure resolving 'mirror.example'", "Could not resolve 'mirror.example'",
                                "Could not connect to 192.0.2.1:80 (192.0.2.1). - connect (111: Connection refused)"}) {
    const auto error =
        explain_failure("Err:1 http://mirror.example/debian bookworm InRelease\n  " + why +
                            "\nE: Failed to fetch http://mirror.example/debian/dists/bookworm/InRelease  " + why +
                            "\nE: Some index files failed to download.\nE: mmdebstrap failed\n",
                        "failed", "/l");
    EXPECT_EQ(error.code(), ErrorCode::host_lacks);
    EXPECT_EQ(error.message(), "failed: the package source cannot be reached: " + why);
    EXPECT_EQ(error.hint(), "curl -I http://mirror.example/debian/dists/bookworm/InRelease");
  }
  const auto gone = explain_failure("E: Failed to fetch http://mirror.example/x.deb  404  Not Found\n", "failed", "/l");
  EXPECT_EQ(gone.code(), ErrorCode::operation_failed) << "it answers";
}

TEST(AptFailure, WhatAMirrorSaysCannotSteerTheTerminal) {
  const auto error = explain_failure("E: Failed to fetch \x1b]0;owned\x07\n", "failed", "/l");
  EXPECT_EQ(error.message().find('\x1b'), std::string::npos);
}

}  // namespace
}  // namespace agentvm
