// The guest's sender and the host's receiver against each other, on two folders of this machine.
#include "sync/artifacts/receive.hpp"

#include <fstream>
#include <thread>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "guest/agent/artifact_sender.hpp"
#include "tests/support/artifact_stream.hpp"
#include "tests/support/temporary_folder.hpp"

namespace agentvm::sync {
namespace {

using guest::agent::Artifact;
using guest::agent::find_artifacts;
using test::error_of;

class FdSource final : public ByteSource {
 public:
  explicit FdSource(int fd) : fd_(fd) {}
  void read(void* into, std::size_t size) override {
    for (auto* to = static_cast<char*>(into); size > 0;) {
      const auto count = read_some(fd_, to, size, Deadline::after(milliseconds(20'000)));
      if (count == 0) throw Error(ErrorCode::operation_failed, "the sender stopped");
      to += count;
      size -= count;
    }
  }

 private:
  const int fd_;
};

class ReceiveTest : public testing::Test {
 protected:
  ReceiveTest() {
    fs::create_directories(guest);
    fs::create_directories(host);
    request.globs = {"dist", "out/*.bin"};
  }
  void write(const fs::path& path, const std::string& text, const fs::perms perms = fs::perms(0644)) {
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
    fs::permissions(path, perms);
  }
  ReceiveVerdict run() {
    auto pair = make_socketpair();
    std::string problem;
    std::thread sender([&] {
      try {
        guest::agent::send_artifacts(guest, request.globs, request.limits.files, pair.second.get(), pair.second.get());
      } catch (const std::exception& error) {
        problem = error.what();
      }
      pair.second.reset();
    });
    const UniqueFd folder(::open(host.c_str(), O_RDONLY | O_DIRECTORY));
    FdSource source(pair.first.get());
    ReceiveVerdict verdict;
    std::optional<Error> error = error_of([&] {
      TreeWriter tree(folder.get());
      verdict = receive(
          request, source,
          [&](std::string_view bytes) { write_all(pair.first.get(), bytes, Deadline::after(milliseconds(20'000))); },
          tree, [](const ReceiveProgress&) {});
    });
    pair.first.reset();
    sender.join();
    if (error) throw *error;
    EXPECT_EQ(problem, "");
    EXPECT_FALSE(fs::exists(host / TreeWriter::draft_name));
    return verdict;
  }

  const test::TemporaryFolder root;
  const fs::path guest = root / "guest", host = root / "host";
  ReceiveRequest request;
};

TEST_F(ReceiveTest, WhatIsNewComesAndWhatIsTheSameStays) {
  write(guest / "dist/app.js", "code");
  write(guest / "dist/deep/er/tool", std::string(700'000, 'x'), fs::perms(06755));
  write(guest / "out/a.bin", "");
  write(guest / "out/a.txt", "not asked for");
  write(guest / "src/main.c", "not asked for");
  fs::create_symlink("app.js", guest / "dist/latest.js");
  auto verdict = run();
  EXPECT_EQ(verdict.files, 3u);
  EXPECT_EQ(verdict.links, 1u);
  EXPECT_EQ(verdict.bytes, 700'004u);
  EXPECT_EQ(read_file(host / "dist/app.js"), "code");
  EXPECT_EQ(read_file(host / "dist/deep/er/tool"), std::string(700'000, 'x'));
  EXPECT_EQ(fs::read_symlink(host / "dist/latest.js"), "app.js");
  EXPECT_TRUE(fs::exists(host / "out/a.bin"));
  EXPECT_FALSE(fs::exists(host / "out/a.txt") || fs::exists(host / "src"));
  const auto mode = fs::status(host / "dist/deep/er/tool").permissions();
  EXPECT_NE(mode & fs::perms::owner_exec, fs::perms::none);
  EXPECT_EQ(mode & fs::perms(07000), fs::perms::none) << "no setuid, no setgid, no sticky bit";
  EXPECT_EQ(fs::last_write_time(host / "dist/app.js"), fs::last_write_time(guest / "dist/app.js"));

  verdict = run();
  EXPECT_EQ(verdict.files, 0u);
  EXPECT_EQ(verdict.unchanged, 4u);
  write(guest / "dist/app.js", "edoc");
  fs::remove(guest / "dist/deep/er/tool");
  verdict = run();
  EXPECT_EQ(verdict.files, 1u);
  EXPECT_EQ(read_file(host / "dist/app.js"), "edoc");
  EXPECT_TRUE(fs::exists(host / "dist/deep/er/tool")) << "nothing is deleted";
}

TEST_F(ReceiveTest, HolesStayHoles) {
  constexpr std::uint64_t size = 3ULL << 30;
  write(guest / "dist/sparse", "begin");
  fs::resize_file(guest / "dist/sparse", size);
  {
    std::fstream file(guest / "dist/sparse", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(1 << 30);
    file << "middle";
  }
  EXPECT_EQ(run().bytes, size);
  struct stat status {};
  ASSERT_EQ(::stat((host / "dist/sparse").c_str(), &status), 0);
  EXPECT_EQ(status.st_size, static_cast<off_t>(size));
  EXPECT_LT(status.st_blocks * 512, 10 << 20);
  std::ifstream file(host / "dist/sparse", std::ios::binary);
  file.seekg(1 << 30);
  std::string text(6, '\0');
  file.read(text.data(), 6);
  EXPECT_EQ(text, "middle");
}

TEST_F(ReceiveTest, WhatNeedsADecisionIsNamedAndNothingIsWritten) {
  write(guest / "dist/app.js", "new");
  write(guest / "dist/index.html", "new");
  write(guest / "dist/package.json", "{}");
  write(guest / "dist/gitmod~1", "");
  write(host / "dist/index.html", "committed here");
  request.tracked = {"dist/index.html"};
  auto verdict = run();
  ASSERT_EQ(verdict.gated.size(), 3u);
  EXPECT_EQ(verdict.gated[0].path + " " + verdict.gated[0].kind, "dist/gitmod~1 git");
  EXPECT_EQ(verdict.gated[1].path + " " + verdict.gated[1].kind, "dist/index.html tracked");
  EXPECT_EQ(verdict.gated[2].path + " " + verdict.gated[2].kind, "dist/package.json package-script");
  EXPECT_EQ(verdict.files, 4u);
  EXPECT_FALSE(fs::exists(host / "dist/app.js"));
  EXPECT_EQ(read_file(host / "dist/index.html"), "committed here");
  request.accepted = {"dist/gitmod~1", "dist/index.html"};
  verdict = run();
  ASSERT_EQ(verdict.gated.size(), 1u);
  request.gate.allow = {"package.json"};
  verdict = run();
  EXPECT_TRUE(verdict.gated.empty());
  EXPECT_EQ(read_file(host / "dist/index.html"), "new");
  // Once it is the same, nobody asks; nor when it has another date alone.
  request.accepted.clear();
  fs::last_write_time(guest / "dist/index.html", fs::file_time_type::clock::now() + std::chrono::hours(1));
  verdict = run();
  EXPECT_TRUE(verdict.gated.empty());
  EXPECT_EQ(verdict.files, 0u);
  write(guest / "dist/index.html", "wen");
  EXPECT_EQ(run().gated.size(), 1u);
}

TEST_F(ReceiveTest, ADryRunWritesNothing) {
  write(guest / "dist/app.js", "code");
  request.dry_run = true;
  EXPECT_EQ(run().files, 1u);
  EXPECT_TRUE(fs::is_empty(host));
}

TEST_F(ReceiveTest, WhatIsInTheWayStays) {
  for (const char* name : {"dist/folder", "dist/link", "dist/pipe", "dist/below/x", "dist/through/x", "dist/plain"})
    write(guest / name, "guest");
  fs::create_symlink("plain", guest / "dist/zlink");
  fs::create_directories(host / "dist/folder");
  fs::create_directories(host / "elsewhere");
  write(host / "victim", "mine");
  fs::create_symlink("../victim", host / "dist/link");
  fs::create_directory_symlink("../elsewhere", host / "dist/through");
  write(host / "dist/below", "a file");
  write(host / "dist/zlink", "a file");
  ASSERT_EQ(::mkfifo((host / "dist/pipe").c_str(), 0600), 0);
  const auto verdict = run();
  EXPECT_EQ(verdict.files, 1u);
  EXPECT_EQ(verdict.links, 0u);
  EXPECT_EQ(verdict.left_out_count, 6u);
  EXPECT_EQ(read_file(host / "victim"), "mine");
  EXPECT_TRUE(fs::is_symlink(host / "dist/link") && fs::is_directory(host / "dist/folder"));
  EXPECT_TRUE(fs::is_empty(host / "elsewhere"));
  EXPECT_EQ(read_file(host / "dist/zlink"), "a file");
}

TEST_F(ReceiveTest, SpecialsAreLeftOutAndGitFoldersPassedOver) {
  write(guest / "dist/.git/config", "x");
  write(guest / "dist/ok", "x");
  ASSERT_EQ(::mkfifo((guest / "dist/pipe").c_str(), 0600), 0);
  fs::create_symlink("/etc/passwd", guest / "dist/out");
  const auto verdict = run();
  EXPECT_EQ(verdict.files, 1u);
  ASSERT_EQ(verdict.left_out.size(), 2u);
  EXPECT_FALSE(fs::exists(host / "dist/.git") || fs::exists(host / "dist/pipe") || fs::is_symlink(host / "dist/out"));
}

TEST_F(ReceiveTest, MoreThanTheLimitsIsNothingAtAll) {
  for (int i = 0; i < 20; ++i) write(guest / "dist" / std::to_string(i), "0123456789");
  request.limits.files = 10;
  EXPECT_THAT(error_of([&] { run(); })->what(), testing::HasSubstr("artifacts.limits.files"));
  request.limits = {150, 100};
  EXPECT_THAT(error_of([&] { run(); })->what(), testing::HasSubstr("artifacts.limits.bytes"));
  EXPECT_TRUE(fs::is_empty(host));
}

TEST_F(ReceiveTest, GlobsFindWhatTheySay) {
  for (const char* name : {"a/dist/1", "a/b/dist/2", "dist/3", "a/.git/dist/4", "a/distant/5", "x.log", "a/y.log"})
    write(guest / name, "");
  const auto find = [&](const std::string& glob) {
    std::string found;
    for (const auto& [path, artifact] : find_artifacts(guest, {glob}, 100)) found += path + " ";
    return found;
  };
  EXPECT_EQ(find("dist"), "dist/3 ");
  EXPECT_EQ(find("*/dist"), "a/dist/1 ");
  EXPECT_EQ(find("**/dist"), "a/b/dist/2 a/dist/1 dist/3 ");
  EXPECT_EQ(find("**/*.log"), "a/y.log x.log ");
  EXPECT_EQ(find("a/d?st"), "a/dist/1 ");
  EXPECT_EQ(find("a/**"), "a/b/dist/2 a/dist/1 a/distant/5 a/y.log ");
  EXPECT_EQ(find("nothing/here"), "");
}

TEST(Receive, RequestsAndVerdictsGoThroughJson) {
  ReceiveRequest request;
  request.limits = {7, 8};
  request.globs = {"dist"};
  request.gate = {{"a"}, {"b"}, {"c"}};
  request.tracked = {"z", "y"};
  request.accepted = {"x"};
  request.dry_run = true;
  const auto back = receive_request_from(to_json(request));
  EXPECT_EQ(back.tracked, (std::vector<std::string>{"y", "z"}));
  EXPECT_EQ(back.limits.bytes, 7u);
  EXPECT_EQ(back.gate.deny, request.gate.deny);
  EXPECT_TRUE(back.dry_run);
  ReceiveVerdict verdict;
  verdict.gated = {{"p", "k"}};
  verdict.left_out = {{"q", "r"}};
  verdict.bytes = 9;
  EXPECT_EQ(to_json(receive_verdict_from(to_json(verdict))), to_json(verdict));
  EXPECT_TRUE(error_of([] { receive_verdict_from(Json::parse(R"({"files": -1})")); }));
}

}  // namespace
}  // namespace agentvm::sync
