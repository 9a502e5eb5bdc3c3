// Build products as a guest sends them: what is read, what is refused, what is left out.
#include "sync/artifacts/stream.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/artifact_stream.hpp"
#include "tests/support/temporary_folder.hpp"

namespace agentvm::sync {
namespace {

using test::ArtifactBytes;
using test::error_of;
using test::StringSource;
using testing::HasSubstr;

const std::vector<std::string> everything{"**"};

Listing parse(const std::string& bytes, const std::vector<std::string>& globs = everything,
              ArtifactLimits limits = {}) {
  StringSource source(bytes);
  auto listing = read_listing(source, globs, limits);
  EXPECT_EQ(source.left(), 0u);
  return listing;
}

std::string refusal(const ArtifactBytes& bytes, const std::vector<std::string>& globs = everything,
                    ArtifactLimits limits = {}) {
  const auto error = error_of([&] { parse(bytes.str(), globs, limits); });
  return error ? error->what() : "";
}

struct Collected final : ContentSink {
  void begin(const ListedFile& file) override { text += file.path + ":"; }
  void bytes(std::string_view bytes) override { text += bytes; }
  void hole(std::uint64_t size) override { text += "<" + std::to_string(size) + ">"; }
  void end(bool whole) override { text += whole ? ";" : "!"; }
  std::string text;
};

TEST(ArtifactStream, AListingIsRead) {
  const auto listing = parse(ArtifactBytes()
                                 .head()
                                 .file("dist/a.js", 5, 17)
                                 .file("dist/b", 1ULL << 32, 18, 1)
                                 .link("dist/c", "b")
                                 .special("dist/d")
                                 .end()
                                 .str());
  ASSERT_EQ(listing.files.size(), 2u);
  EXPECT_EQ(listing.files[0].path, "dist/a.js");
  EXPECT_EQ(listing.files[0].size, 5u);
  EXPECT_EQ(listing.files[0].mtime_ns, 17);
  EXPECT_FALSE(listing.files[0].executable);
  EXPECT_TRUE(listing.files[1].executable);
  EXPECT_EQ(listing.files[1].size, 1ULL << 32);
  ASSERT_EQ(listing.links.size(), 1u);
  EXPECT_EQ(listing.links[0].target, "b");
  ASSERT_EQ(listing.left_out.size(), 1u);
  EXPECT_EQ(listing.left_out[0].path, "dist/d");
}

TEST(ArtifactStream, PathsThatLeaveAreNoListing) {
  for (const char* path :
       {"/etc/passwd", "..", "../x", "dist/../../x", "dist/..", ".", "dist/./x", "dist//x", "dist/", "/"})
    EXPECT_THAT(refusal(ArtifactBytes().head().file(path).end()), HasSubstr("the path")) << path;
  EXPECT_THAT(refusal(ArtifactBytes().head().file(std::string("a\0b", 3)).end()), HasSubstr("the path"));
  EXPECT_THAT(refusal(ArtifactBytes().head().file(std::string(256, 'a')).end()), HasSubstr("the path"));
  EXPECT_THAT(refusal(ArtifactBytes().head().file("").end()), HasSubstr("a name of 0 bytes"));
  EXPECT_THAT(refusal(ArtifactBytes().head().file(std::string(4097, 'a')).end()), HasSubstr("a name of 4097 bytes"));
  std::string deep = "a";
  for (int i = 0; i < 200; ++i) deep += "/a";
  EXPECT_THAT(refusal(ArtifactBytes().head().file(deep).end()), HasSubstr("the path"));
  EXPECT_THAT(refusal(ArtifactBytes().head().link("../x", "y").end()), HasSubstr("the path"));
  EXPECT_THAT(refusal(ArtifactBytes().head().special("../x").end()), HasSubstr("the path"));
}

TEST(ArtifactStream, WhatNobodyAskedForIsNoListing) {
  const std::vector<std::string> globs{"dist", "packages/*/out"};
  EXPECT_EQ(parse(ArtifactBytes().head().file("dist/x/y").file("packages/a/out/z").end().str(), globs).files.size(),
            2u);
  for (const char* path : {"src/main.c", "distant", "sub/dist/x", "packages/a/b/out/z", "packages/out"})
    EXPECT_THAT(refusal(ArtifactBytes().head().file(path).end(), globs), HasSubstr("nobody asked for")) << path;
}

TEST(ArtifactStream, OtherBytesAreNoListing) {
  EXPECT_NE(refusal(ArtifactBytes().raw("AVMART2\n").end()), "");
  EXPECT_NE(refusal(ArtifactBytes().head().raw("Q").end()), "");
  EXPECT_NE(refusal(ArtifactBytes().head().file("a", 0, 1, 2).end()), "") << "a mode that is neither";
  EXPECT_NE(refusal(ArtifactBytes().head().file("b").file("a").end()), "") << "not in order";
  EXPECT_NE(refusal(ArtifactBytes().head().file("a").file("a").end()), "") << "twice";
  EXPECT_NE(refusal(ArtifactBytes().head().file("a").link("a", "b").end()), "") << "twice";
  EXPECT_NE(refusal(ArtifactBytes().head().file("a")), "") << "no end";
}

TEST(ArtifactStream, LimitsEndIt) {
  EXPECT_THAT(refusal(ArtifactBytes().head().file("a", 60).file("b", 41).end(), everything, {100, 10}),
              HasSubstr("artifacts.limits.bytes"));
  EXPECT_THAT(refusal(ArtifactBytes().head().file("a", 60).file("b", ~0ULL).end(), everything, {100, 10}),
              HasSubstr("artifacts.limits.bytes"));
  EXPECT_EQ(refusal(ArtifactBytes().head().file("a", 60).file("b", 40).end(), everything, {100, 10}), "");
  ArtifactBytes many;
  many.head();
  for (char c = 'a'; c < 'n'; ++c) many.special(std::string(1, c));
  EXPECT_THAT(refusal(many, everything, {100, 10}), HasSubstr("artifacts.limits.files"));
}

TEST(ArtifactStream, NamesThatAreTakenForGitStayOut) {
  ArtifactBytes bytes;
  bytes.head();
  const char* names[] = {"dist/.GIT/config",  "dist/.git",    "dist/.git /hooks/x", "dist/.git::$INDEX_ALLOCATION/x",
                         "dist/.g\u200cit/x", "dist/GIT~1/x", "dist/git~1"};
  std::vector<std::string> sorted(std::begin(names), std::end(names));
  std::sort(sorted.begin(), sorted.end());
  for (const auto& name : sorted) bytes.file(name);
  const auto listing = parse(bytes.end().str());
  EXPECT_TRUE(listing.files.empty());
  EXPECT_EQ(listing.left_out.size(), sorted.size());
  EXPECT_EQ(listing.places, std::vector<std::uint32_t>(sorted.size(), Listing::none));
}

TEST(ArtifactStream, NamesThatDeceiveATerminalStayOut) {
  for (const char* name : {"a\x1b[31m", "a\nb", "a\tb", "a\x7f", "a\xff", "a\u202etxt"}) {
    const auto listing = parse(ArtifactBytes().head().file(name).end().str());
    EXPECT_TRUE(listing.files.empty()) << name;
    EXPECT_EQ(listing.left_out.size(), 1u);
  }
  EXPECT_EQ(parse(ArtifactBytes().head().file("grün und 日本").end().str()).files.size(), 1u);
}

TEST(ArtifactStream, LinksThatLeaveStayOut) {
  for (const char* target : {"/etc/passwd", "../../x", "a/../../..", "../.git/hooks", ".GIT/config", "x/.git"})
    EXPECT_EQ(parse(ArtifactBytes().head().link("dist/l", target).end().str()).left_out.size(), 1u) << target;
  for (const char* target : {"x", "../x", "a/b/c"})
    EXPECT_EQ(parse(ArtifactBytes().head().link("dist/l", target).end().str()).links.size(), 1u) << target;
}

class ArtifactContents : public testing::Test {
 protected:
  std::string read(const ArtifactBytes& bytes, const std::vector<std::uint32_t>& wanted) {
    StringSource source(bytes.str());
    Collected sink;
    const auto error = error_of([&] { read_contents(source, listing, wanted, sink); });
    return error ? "refused: " + sink.text : sink.text;
  }
  const Listing listing =
      parse(ArtifactBytes().head().file("a", 4).file("b", 3).file("c/.git", 1).file("d").end().str());
};

TEST_F(ArtifactContents, AreReadInPiecesAndHoles) {
  EXPECT_EQ(read(ArtifactBytes().begin(0).piece("ab").hole(2).done().begin(3).done().last(), {0, 3}), "a:ab<2>;d:;");
  EXPECT_EQ(read(ArtifactBytes().begin(1).piece("x").piece("yz").done().last(), {1}), "b:xyz;");
  EXPECT_EQ(read(ArtifactBytes().last(), {}), "");
}

TEST_F(ArtifactContents, ThatChangedOrCameShortAreNotWhole) {
  EXPECT_EQ(read(ArtifactBytes().begin(0).piece("abcd").done(1).last(), {0}), "a:abcd!");
  EXPECT_EQ(read(ArtifactBytes().begin(0).piece("abc").done().last(), {0}), "a:abc!");
}

TEST_F(ArtifactContents, AreRefusedBeyondWhatWasListed) {
  EXPECT_EQ(read(ArtifactBytes().begin(0).piece("abcde").done().last(), {0}), "refused: a:");
  EXPECT_EQ(read(ArtifactBytes().begin(0).piece("ab").hole(3).done().last(), {0}), "refused: a:ab");
  EXPECT_EQ(read(ArtifactBytes().begin(0).hole(~0ULL).done().last(), {0}), "refused: a:");
  EXPECT_EQ(read(ArtifactBytes().begin(1).piece("xyz").done().last(), {0}), "refused: ") << "another file";
  EXPECT_EQ(read(ArtifactBytes().begin(0).piece("abcd").done(2).last(), {0}), "refused: a:abcd");
  EXPECT_EQ(read(ArtifactBytes().begin(0).piece("abcd").done().raw("D"), {0}), "refused: a:abcd;");
  EXPECT_EQ(read(ArtifactBytes().begin(0).piece("abcd"), {0}), "refused: a:abcd");
}

TEST(ArtifactGlob, IsAPathBelowTheWorkspace) {
  EXPECT_EQ(artifact_glob("./dist/"), "dist");
  EXPECT_EQ(artifact_glob("packages/*/dist"), "packages/*/dist");
  for (const char* bad : {"", "/", ".", "./", "..", "../x", "/abs", "a//b", "a/../b", ".git", "a/.GIT/hooks"})
    EXPECT_EQ(error_of([&] { artifact_glob(bad); })->code(), ErrorCode::usage) << bad;
}

}  // namespace
}  // namespace agentvm::sync
