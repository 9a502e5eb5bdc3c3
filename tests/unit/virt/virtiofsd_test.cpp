#include "vmm/virtiofs/virtiofsd.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.hpp"
#include "vmm/base/files.hpp"

namespace agentvm {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(Virtiofsd, IsToldApartByItsVersion) {
  EXPECT_EQ(
      virtiofsd_kind("virtiofsd version 7.2.22 (Debian 1:7.2+dfsg-7)\nusing FUSE kernel interface version 7.36\n"),
      VirtiofsdKind::c_qemu);
  EXPECT_EQ(virtiofsd_kind("a warning first\nvirtiofsd version 7.2.22\n"), VirtiofsdKind::c_qemu);
  EXPECT_EQ(virtiofsd_kind(""), VirtiofsdKind::c_qemu);
  EXPECT_EQ(virtiofsd_kind("virtiofsd 1.13.0\n"), VirtiofsdKind::rust);
  EXPECT_EQ(virtiofsd_kind("a warning first\nvirtiofsd 1.13.0\n"), VirtiofsdKind::rust);
}

TEST(Virtiofsd, SandboxIsOnForBothKinds) {
  EXPECT_THAT(virtiofsd_arguments({"/v", VirtiofsdKind::c_qemu}, "/mnt", 3),
              AllOf(Contains("--fd=3"),
                    Contains(AllOf(HasSubstr("source=/mnt"), HasSubstr("sandbox=namespace"), HasSubstr("no_xattr")))));
  EXPECT_THAT(virtiofsd_arguments({"/v", VirtiofsdKind::rust}, "/mnt", 3),
              AllOf(Contains("--fd=3"), Contains("--shared-dir=/mnt"), Contains("--sandbox=namespace"),
                    Contains("--seccomp=kill")));
}

TEST(Virtiofsd, ARecycledPidIsNotTheProcess) {
  const auto ours = static_cast<int>(::getpid());
  EXPECT_FALSE(virtiofsd_runs({ours, 1}));
  EXPECT_FALSE(virtiofsd_runs({}));
  stop_virtiofsd({ours, 1}, Deadline::after(milliseconds(100)));  // would end this very test
}

TEST(Virtiofsd, AFolderWithMoreFilesThanItMayHoldOpenIsRefused) {
  const test::TemporaryFolder folder;
  fs::create_directory(folder / "sub");
  for (const char* name : {"a", "sub/b"}) write_file_atomic(folder / name, "");
  fs::create_directory_symlink("/usr", folder / "link");  // counts once: it is not followed
  EXPECT_FALSE(test::error_of([&] { check_shareable(folder.path(), 5); }));
  const auto error = test::error_of([&] { check_shareable(folder.path(), 4); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::host_lacks);
  EXPECT_THAT(error->what(), HasSubstr("has 5 files and folders, and a program may hold 4 open"));
  EXPECT_THAT(error->hint(), HasSubstr("--workspace disk"));
  EXPECT_LE(virtiofsd_open_files(), 1048576U);
}

}  // namespace
}  // namespace agentvm
