#include "guest/image/sources.hpp"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vmm/base/files.hpp"

namespace agentvm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using Components = std::vector<std::string>;

const char* const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";

TEST(Sources, UserAndPasswordAreStripped) {
  EXPECT_EQ(strip_userinfo("https://me:s3cret@mirror.example/debian"), "https://mirror.example/debian");
  EXPECT_EQ(strip_userinfo("https://token@mirror.example:8443/debian"), "https://mirror.example:8443/debian");
  EXPECT_EQ(strip_userinfo("https://a@b:c@mirror.example/x@y"), "https://mirror.example/x@y");
  EXPECT_EQ(strip_userinfo("http://mirror.example/a@b"), "http://mirror.example/a@b");
  EXPECT_EQ(strip_userinfo("http://me:s3cret@mirror.example"), "http://mirror.example");
  EXPECT_EQ(strip_userinfo("http://me:s3cret@mirror.example?x=@"), "http://mirror.example?x=@");
}

TEST(Sources, ReadsOneLineEntries) {
  const auto found = parse_sources_list(
      "# deb http://commented.example/debian bookworm main\n"
      "deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://me:pw@mirror.example/debian "
      "bookworm main contrib # x\n"
      "deb-src http://mirror.example/debian bookworm main\n"
      "deb [broken http://mirror.example/debian bookworm main\n"
      "deb http://mirror.example/debian\n"
      "deb [signed-by=0123ABCD] http://b.example/debian bookworm-updates main\n");
  EXPECT_THAT(found, ElementsAre(PackageSource{"http://mirror.example/debian", "bookworm",
                                               Components{"main", "contrib"}, keyring},
                                 PackageSource{"http://b.example/debian", "bookworm-updates", Components{"main"}, ""}));
}

TEST(Sources, ReadsDeb822Entries) {
  const auto found = parse_deb822_sources(
      "Types: deb deb-src\n"
      "# a comment\n"
      "URIs: http://u:p@mirror.example/debian\n"
      "Suites: bookworm bookworm-updates\n"
      "Components: main\n"
      " contrib\n"
      "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
      "\n"
      "Types: deb\nEnabled: No\nURIs: http://off.example/debian\nSuites: bookworm\nComponents: main\n"
      "\n"
      "types: deb\nuris: http://inline.example/debian\nsuites: bookworm\ncomponents: main\n"
      "signed-by:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abcd\n -----END PGP PUBLIC KEY BLOCK-----\n");
  EXPECT_THAT(
      found,
      ElementsAre(
          PackageSource{"http://mirror.example/debian", "bookworm", Components{"main", "contrib"}, keyring},
          PackageSource{"http://mirror.example/debian", "bookworm-updates", Components{"main", "contrib"}, keyring},
          PackageSource{"http://inline.example/debian", "bookworm", Components{"main"}, ""}));
}

TEST(Sources, ThirdPartiesAreLeftOut) {
  const auto found = debian_sources(
      {
          {"https://deb.nodesource.example/node_20.x", "nodistro", {"main"}, ""},
          {"https://docker.example/linux/debian", "bookworm", {"stable"}, ""},
          {"https://cloud.example/apt", "cloud-sdk-bookworm", {"main"}, ""},
          {"https://pg.example/apt", "bookworm-pgdg", {"main"}, ""},
          {"cdrom:[Debian]/", "bookworm", {"main"}, ""},
          {"file:/srv/debian", "bookworm", {"main"}, ""},
          {"http://mirror.example/debian", "bookworm-backports", {"main"}, ""},
          {"http://mirror.example/debian", "bookworm", {"main", "extra-vendor", "non-free"}, ""},
          {"http://mirror.example/debian", "bookworm", {"main", "non-free"}, ""},
          {"http://mirror.example/debian-security", "bookworm-security", {"main"}, ""},
      },
      "bookworm");
  EXPECT_THAT(
      found,
      ElementsAre(PackageSource{"http://mirror.example/debian", "bookworm", Components{"main", "non-free"}, ""},
                  PackageSource{"http://mirror.example/debian-security", "bookworm-security", Components{"main"}, ""}));
}

TEST(Sources, AnotherSuiteOfTheHostServesAsMirror) {
  const std::vector<PackageSource> trixie = {
      {"http://mirror.example/debian", "trixie", {"main"}, ""},
      {"http://mirror.example/debian", "trixie-updates", {"main"}, ""},
      {"http://mirror.example/debian-security", "trixie-security", {"main"}, ""}};
  const auto found = debian_sources(trixie, "bookworm");
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[0].suite, "bookworm");
  EXPECT_EQ(found[1].suite, "bookworm-updates");
  EXPECT_EQ(found[2].suite, "bookworm-security");
  EXPECT_EQ(debian_sources(trixie, "trixie")[0].suite, "trixie");
}

TEST(Sources, NoPasswordOfTheHostIsRead) {
  const auto apt = fs::temp_directory_path() / ("sources-" + random_hex(6));
  fs::create_directories(apt / "sources.list.d");
  fs::create_directories(apt / "auth.conf.d");
  write_file_atomic(apt / "sources.list", "deb https://user:canary-1@mirror.example/debian bookworm main\n");
  write_file_atomic(apt / "sources.list.d" / "x.sources",
                    "Types: deb\nURIs: https://canary-2:canary-3@mirror.example/debian-security\nSuites: "
                    "bookworm-security\nComponents: main\n");
  write_file_atomic(apt / "sources.list.d" / "y.sources.bak",
                    "Types: deb\nURIs: https://backup.example/\nSuites: bookworm\nComponents: main\n");
  write_file_atomic(apt / "auth.conf", "machine mirror.example login user password canary-4\n");
  const auto text = render_sources(host_sources(apt, "bookworm"));
  EXPECT_EQ(text,
            "deb https://mirror.example/debian bookworm main\n"
            "deb https://mirror.example/debian-security bookworm-security main\n");
  remove_tree(apt);
}

TEST(Sources, AHostWithoutDebianSourcesGetsThePublicArchive) {
  const auto text = render_sources(host_sources("/nonexistent-apt-folder", "bookworm"));
  EXPECT_THAT(text, HasSubstr("http://deb.debian.org/debian bookworm main\n"));
  EXPECT_THAT(text, HasSubstr("http://deb.debian.org/debian-security bookworm-security main\n"));
}

TEST(Sources, RenderedListReadsBack) {
  const std::vector<PackageSource> sources = {
      {"http://mirror.example/debian", "bookworm", {"main", "contrib"}, keyring},
      {"http://mirror.example/debian", "bookworm-updates", {"main"}, ""}};
  EXPECT_EQ(parse_sources_list(render_sources(sources)), sources);
}

TEST(Sources, KeyringPathsCannotSmuggleOptions) {
  const auto found = parse_deb822_sources(
      "Types: deb\nURIs: http://m.example/debian\nSuites: bookworm\nComponents: main\nSigned-By: /a]b\n\n"
      "Types: deb\nURIs: http://m.example/debian\nSuites: bookworm\nComponents: main\nSigned-By: /a/../etc/shadow\n");
  ASSERT_EQ(found.size(), 2u);
  EXPECT_THAT(found[0].signed_by, IsEmpty());
  EXPECT_THAT(found[1].signed_by, IsEmpty());
  EXPECT_THAT(render_sources(found), Not(HasSubstr("[")));
}

}  // namespace
}  // namespace agentvm
