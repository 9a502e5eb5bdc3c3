// Build products through the real sender and the real child, and a hostile sender in its place.
#include "sync/artifacts/artifacts.hpp"

#include <fstream>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "tests/contract/artifacts/artifact_request.hpp"
#include "tests/contract/sync/git_fixture.hpp"
#include "tests/support/artifact_stream.hpp"
#include "tests/support/fake_streams.hpp"
#include "tests/support/temporary_folder.hpp"

namespace agentvm::sync {
namespace {

using test::ArtifactBytes;
using test::error_of;
using test::FakeStreams;
using testing::HasSubstr;

class ArtifactsTest : public testing::Test {
 protected:
  ArtifactsTest() {
    fs::create_directories(guest);
    fs::create_directories(dir / "host");
    fs::create_directories(dir / "state");
    fs::create_directories(dir / "canary");
    request = test::artifact_request(dir.path(), guest);
  }
  static void write(const fs::path& path, const std::string& text) {
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
  }
  ArtifactOutcome fetch(guest::Streams& streams) {
    return fetch_artifacts(request, streams, no_progress(), stop.get_token(), Deadline::after(milliseconds(60'000)));
  }
  ArtifactOutcome fetch() {
    FakeStreams streams;
    return fetch(streams);
  }
  /// A sender of the test's own: says `bytes`, takes the host's answer, says `contents`.
  std::string refused(const ArtifactBytes& bytes, const ArtifactBytes& contents = {}) {
    FakeStreams streams([&](const guest::ExecSpec&) {
      return [&](const guest::ExecSpec&, int io, int) {
        const auto deadline = Deadline::after(milliseconds(20'000));
        try {
          write_all(io, bytes.str(), deadline);
          char buffer[4096];
          if (read_some(io, buffer, sizeof buffer, deadline) > 0) write_all(io, contents.str(), deadline);
          while (read_some(io, buffer, sizeof buffer, deadline) > 0) {
          }
        } catch (const Error&) {
        }
        return 0;
      };
    });
    const auto error = error_of([&] { fetch(streams); });
    return error ? error->what() : "";
  }

  const test::TemporaryFolder dir;
  const fs::path guest = dir / "guest";
  ArtifactRequest request;
  std::stop_source stop;
};

TEST_F(ArtifactsTest, ComeIntoTheProjectAndOnlyWhatIsNew) {
  const auto repo = test::Repo::init(dir / "host");
  write(guest / "dist/app.js", "code");
  write(guest / "src/main.c", "source");
  auto outcome = fetch();
  EXPECT_EQ(outcome.verdict.files, 1u);
  EXPECT_EQ(to_json(outcome)["result"], "updated");
  EXPECT_EQ(read_file(dir / "host/dist/app.js"), "code");
  EXPECT_FALSE(fs::exists(dir / "host/src"));
  EXPECT_EQ(to_json(fetch())["result"], "up-to-date");
}

TEST_F(ArtifactsTest, WhatGitHasIsReplacedAfterAQuestionOnly) {
  const auto repo = test::Repo::init(dir / "host");
  write(dir / "host/dist/kept.js", "committed");
  repo.git({"add", "-f", "dist/kept.js"});
  write(guest / "dist/kept.js", "from the guest");
  write(guest / "dist/new.js", "from the guest");
  request.accept = true;  // before anybody asked: covers nothing
  auto outcome = fetch();
  ASSERT_TRUE(outcome.gated());
  EXPECT_EQ(outcome.verdict.gated[0].kind, "tracked");
  EXPECT_FALSE(fs::exists(dir / "host/dist/new.js"));
  write(guest / "dist/package.json", "{}");  // while the user reads
  outcome = fetch();
  ASSERT_EQ(outcome.verdict.gated.size(), 1u);
  EXPECT_EQ(outcome.verdict.gated[0].path, "dist/package.json");
  EXPECT_THAT(outcome.reason, HasSubstr("came after you were asked"));
  EXPECT_EQ(read_file(dir / "host/dist/kept.js"), "committed");
  outcome = fetch();
  EXPECT_FALSE(outcome.gated());
  EXPECT_EQ(read_file(dir / "host/dist/kept.js"), "from the guest");
  EXPECT_TRUE(fs::exists(dir / "host/dist/package.json"));
  write(guest / "dist/kept.js", "again");
  EXPECT_TRUE(fetch().gated()) << "an answer is used up";
}

TEST_F(ArtifactsTest, AnAnswerIsForOneDestination) {
  write(guest / "dist/package.json", "{}");
  EXPECT_TRUE(fetch().gated());
  request.destination = dir / "elsewhere";
  request.accept = true;
  EXPECT_TRUE(fetch().gated());
  EXPECT_FALSE(fetch().gated());
  EXPECT_TRUE(fs::exists(dir / "elsewhere/dist/package.json"));
}

TEST_F(ArtifactsTest, SomeDestinationsAreNone) {
  write(guest / "dist/a", "x");
  fs::create_directories(dir / "host/.git/hooks");
  fs::create_directory_symlink(dir / "state", dir / "link");
  for (const auto& bad : {dir / "state", dir / "state/sandboxes/box/workspace", dir / "host/.git/hooks",
                          dir / "link/deep", dir / "host/.GIT"}) {
    request.destination = bad;
    EXPECT_EQ(error_of([&] { fetch(); })->code(), ErrorCode::usage) << bad;
  }
  EXPECT_FALSE(fs::exists(dir / "state/deep"));
  request.destination = dir / "host";
  const UniqueFd other(::open(request.destination.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_EQ(::flock(other.get(), LOCK_EX), 0);
  EXPECT_EQ(error_of([&] { fetch(); })->code(), ErrorCode::wrong_state);
}

TEST_F(ArtifactsTest, AHostileSenderWritesNothingOutside) {
  const auto outside = "../canary/evil";
  request.globs = {"**"};
  EXPECT_THAT(refused(ArtifactBytes().head().file(outside, 1).end()), HasSubstr("the path"));
  EXPECT_THAT(refused(ArtifactBytes().head().file((dir / "canary/evil").string(), 1).end()), HasSubstr("the path"));
  EXPECT_EQ(refused(ArtifactBytes().head().link("a", "../canary").end(), ArtifactBytes().last()), "");
  EXPECT_FALSE(fs::exists(fs::symlink_status(dir / "host/a"))) << "a link that leads out is left out";
  EXPECT_EQ(refused(ArtifactBytes().head().file("b/.git/hooks/pre-commit", 1, 1, 1).end(), ArtifactBytes().last()), "");
  request.globs = {"dist"};
  EXPECT_THAT(refused(ArtifactBytes().head().file(".bashrc", 1).end()), HasSubstr("nobody asked for"));
  EXPECT_TRUE(fs::is_empty(dir / "canary") && fs::is_empty(dir / "host"));
}

TEST_F(ArtifactsTest, AHostileSenderCostsNoMoreThanTheLimits) {
  request.limits = {1u << 20, 100};
  EXPECT_THAT(refused(ArtifactBytes().head().file("dist/a", 1ULL << 40).end()), HasSubstr("artifacts.limits.bytes"));
  ArtifactBytes many;
  many.head();
  for (int i = 100; i < 300; ++i) many.file("dist/" + std::to_string(i));
  EXPECT_THAT(refused(many), HasSubstr("artifacts.limits.files"));
  ArtifactBytes more;
  more.begin(0).piece(std::string(2u << 20, 'x')).done().last();
  EXPECT_THAT(refused(ArtifactBytes().head().file("dist/a", 1).end(), more), HasSubstr("more bytes"));
  EXPECT_FALSE(fs::exists(dir / "host/dist/a"));
  EXPECT_NE(refused(ArtifactBytes().raw(std::string(1u << 20, '\xff'))), "");
  EXPECT_THAT(refused(ArtifactBytes().head().file("dist/a", 5).end(), ArtifactBytes().begin(0).piece("abc")),
              HasSubstr("stopped"));
  EXPECT_TRUE(!fs::exists(dir / "host/dist/a") && !fs::exists(dir / "host" / TreeWriter::draft_name));
}

TEST_F(ArtifactsTest, ASenderThatHangsIsLeft) {
  FakeStreams streams([&](const guest::ExecSpec&) {
    return [&](const guest::ExecSpec&, int io, int) {
      char byte;
      stop.request_stop();
      try {
        while (read_some(io, &byte, 1, Deadline::after(milliseconds(20'000))) > 0) {
        }
      } catch (const Error&) {
      }
      return 0;
    };
  });
  const auto begun = std::chrono::steady_clock::now();
  EXPECT_EQ(error_of([&] { fetch(streams); })->code(), ErrorCode::cancelled);
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(5));
}

TEST_F(ArtifactsTest, WhatAGuestSaysIsCleanedBeforeItIsShown) {
  FakeStreams streams([&](const guest::ExecSpec&) {
    return [](const guest::ExecSpec&, int, int err) {
      write_all(err, "no\x1b]0;such\x07 program\n", Deadline::after(milliseconds(1'000)));
      return 127;
    };
  });
  const auto error = error_of([&] { fetch(streams); });
  ASSERT_TRUE(error);
  EXPECT_THAT(error->what(), HasSubstr("no\\x1b]0;such\\x07 program"));
  const auto left_out = to_json(ArtifactOutcome{.verdict = {.left_out = {{"a\x1b[2J", "b"}}}})["left_out"];
  EXPECT_THAT(left_out[0]["path"].get<std::string>(), testing::Not(HasSubstr("\x1b")));
}

}  // namespace
}  // namespace agentvm::sync
