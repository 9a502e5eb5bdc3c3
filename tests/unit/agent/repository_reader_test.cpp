// What a guest's agent reads of the repository in its workspace: what git would tell of the same files, from regular
// files alone; and how the host takes its answers.
#include "guest/agent/repository_reader.hpp"

#include <csignal>
#include <fstream>
#include <thread>

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "guest/control/repository.hpp"
#include "guest/protocol/objects.hpp"
#include "tests/support/served_folder.hpp"
#include "tests/support/temporary_folder.hpp"
#include "vmm/base/base64.hpp"
#include "vmm/base/process.hpp"

namespace agentvm::guest {
namespace {

using agent::RepositoryReader;
using test::error_of;

class RepositoryReaderTest : public testing::Test {
 protected:
  RepositoryReaderTest() {
    fs::create_directories(work);
    git("init -q && git commit -q --allow-empty -m one");
  }

  std::string git(const std::string& words) const {
    ProcessSpec spec;
    spec.argv = {"sh", "-c",
                 "cd \"$0\" && export HOME=/nonexistent GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_COUNT=3 "
                 "GIT_CONFIG_KEY_0=init.defaultBranch GIT_CONFIG_VALUE_0=main GIT_CONFIG_KEY_1=user.name "
                 "GIT_CONFIG_VALUE_1=A GIT_CONFIG_KEY_2=user.email GIT_CONFIG_VALUE_2=a@b.invalid; git " +
                     words,
                 work.string()};
    auto out = run_checked(spec, Deadline::after(milliseconds(20'000)));
    while (out.ends_with('\n')) out.pop_back();
    return out;
  }
  bool declines() const { return !parse_guest_references(reader.references()); }
  /// As `git for-each-ref` says it.
  std::string told() const {
    const auto found = parse_guest_references(reader.references());
    std::string text;
    if (!found) return "declined";
    for (const auto& [name, id] : found->tips) text += (text.empty() ? "" : "\n") + id + " " + name;
    return text;
  }
  bool has(const std::string& id) const { return parse_guest_objects(reader.objects({id}), {id}).contains(id); }

  const test::TemporaryFolder root;
  const fs::path work = root / "workspace", dot_git = work / ".git";
  const RepositoryReader reader{work};
};

TEST_F(RepositoryReaderTest, TellsWhatGitTells) {
  for (const char* words : {"branch other", "branch a/b/c", "tag light", "tag -am words heavy", "pack-refs --all",
                            "commit -q --allow-empty -m two", "branch -f other", "branch -D a/b/c", "tag -d light",
                            "update-ref refs/notes/x HEAD", "switch -qc next"}) {
    git(words);
    EXPECT_EQ(told(), git("for-each-ref --format='%(objectname) %(refname)' refs/heads refs/tags")) << words;
    EXPECT_EQ(reader.references().at("head"), git("symbolic-ref HEAD")) << words;
  }
  git("checkout -q --detach");
  EXPECT_EQ(reader.references().at("head"), "");
  git("symbolic-ref HEAD refs/heads/unborn");
  EXPECT_EQ(reader.references().at("head"), "refs/heads/unborn");
}

TEST_F(RepositoryReaderTest, DeclinesWhatFilesDoNotTell) {
  const auto breaks = [&](const char* what, const std::function<void()>& change) {
    fs::remove_all(root / "kept");
    fs::copy(dot_git, root / "kept", fs::copy_options::recursive);
    EXPECT_FALSE(declines()) << what;
    change();
    EXPECT_TRUE(declines()) << what;
    fs::remove_all(dot_git);
    fs::copy(root / "kept", dot_git, fs::copy_options::recursive);
  };
  breaks("another store", [&] { fs::create_directory(dot_git / "reftable"); });
  breaks("a shallow clone", [&] { std::ofstream(dot_git / "shallow") << git("rev-parse HEAD") << "\n"; });
  breaks("a branch that is another's name", [&] { git("symbolic-ref refs/heads/s refs/heads/main"); });
  breaks("a reference that is none", [&] { std::ofstream(dot_git / "refs/heads/x") << "nonsense\n"; });
  breaks("an empty reference", [&] { std::ofstream(dot_git / "refs/heads/x") << ""; });
  breaks("a name that is no ASCII", [&] { git("branch m\xc3\xa4h"); });
  breaks("a reference that is a link",
         [&] { fs::create_symlink(dot_git / "refs/heads/main", dot_git / "refs/heads/x"); });
  breaks("a reference that is a pipe", [&] { ASSERT_EQ(::mkfifo((dot_git / "refs/heads/x").c_str(), 0600), 0); });
  breaks("a folder that is a link", [&] {
    fs::rename(dot_git / "refs/tags", root / "tags");
    fs::create_directory_symlink(root / "tags", dot_git / "refs/tags");
    fs::remove_all(root / "tags-gone");
  });
  fs::remove_all(root / "tags");
  breaks("a store that is a link", [&] {
    fs::rename(dot_git / "refs", root / "refs");
    fs::create_directory_symlink(root / "refs", dot_git / "refs");
  });
  breaks("broken packed references", [&] { std::ofstream(dot_git / "packed-refs") << "nonsense\n"; });
  breaks("a HEAD that is gone", [&] { fs::remove(dot_git / "HEAD"); });
  breaks("a HEAD that leads elsewhere", [&] { std::ofstream(dot_git / "HEAD") << "ref: ../../x\n"; });
  breaks("more branches than fit an answer", [&] {
    const auto head = git("rev-parse HEAD");
    std::ofstream packed(dot_git / "packed-refs");
    for (std::size_t i = 0; i <= reference_limit; ++i) packed << head << " refs/heads/b" << i << "\n";
  });
  breaks("folders that go on", [&] {
    auto deep = dot_git / "refs/heads";
    for (int i = 0; i < 30; ++i) fs::create_directory(deep /= "d");
  });
  breaks("a .git that is a file", [&] {
    fs::remove_all(dot_git);
    std::ofstream(dot_git) << "gitdir: /elsewhere\n";
  });
  EXPECT_FALSE(parse_guest_references(RepositoryReader(root / "nowhere").references()));
}

TEST_F(RepositoryReaderTest, GivesObjectsThatAreRegularFiles) {
  const auto head = git("rev-parse HEAD"), absent = std::string(40, 'a');
  const auto path = dot_git / "objects" / head.substr(0, 2) / head.substr(2);
  const auto answer = parse_guest_objects(reader.objects({absent, head}), {absent, head});
  ASSERT_EQ(answer.size(), 1u);
  EXPECT_EQ(answer.at(head), read_file(path));
  // Whatever stands in its place, nothing but a regular file is opened.
  fs::rename(path, root / "object");
  fs::create_symlink(root / "object", path);
  EXPECT_FALSE(has(head)) << "a link";
  fs::remove(path);
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  EXPECT_FALSE(has(head)) << "a pipe";
  fs::remove(path);
  fs::rename(root / "object", path);
  EXPECT_TRUE(has(head));
  fs::rename(path.parent_path(), root / "folder");
  fs::create_directory_symlink(root / "folder", path.parent_path());
  EXPECT_FALSE(has(head)) << "a folder that is a link";
  for (const std::string& bad :
       {std::string(), std::string("../../../../etc/passwd"), std::string("AA"), std::string(40, 'A')})
    EXPECT_TRUE(error_of([&] { reader.objects({bad}); })) << bad;
  EXPECT_TRUE(error_of([&] { reader.objects(std::vector<std::string>(object_request_limit + 1, head)); }));
}

TEST_F(RepositoryReaderTest, AnAnswerHasAnEnd) {
  std::vector<std::string> ids;
  for (int i = 0; i < 8; ++i) {
    ids.push_back(std::string(38, '0') + std::to_string(10 + i));
    fs::create_directories(dot_git / "objects/00");
    std::ofstream(dot_git / "objects/00" / ids.back().substr(2)) << std::string(40u << 10, 'x');
  }
  const auto some = parse_guest_objects(reader.objects(ids), ids);
  EXPECT_EQ(some.size(), 3u);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(some.contains(ids[static_cast<std::size_t>(i)])) << "in the order asked for";
  std::ofstream(dot_git / "objects/00" / ids[0].substr(2)) << std::string(object_answer_limit_bytes + 1, 'x');
  EXPECT_FALSE(has(ids[0])) << "too large to be sent at all";
}

TEST_F(RepositoryReaderTest, OverThePort) {
  test::ServedFolder served(root.path());
  auto& control = *served.control;
  const auto deadline = Deadline::after(milliseconds(30'000));
  const auto references = control.references({}, deadline);
  ASSERT_TRUE(references);
  EXPECT_EQ(references->head, "refs/heads/main");
  const auto tip = references->tips.at("refs/heads/main");
  EXPECT_EQ(tip, git("rev-parse HEAD"));
  EXPECT_EQ(control.objects({tip}, {}, deadline).size(), 1u);
  EXPECT_EQ(error_of([&] { control.objects({"nonsense"}, {}, deadline); })->code(), ErrorCode::usage);
}

TEST(GuestRepository, AnswersAreCheckedByteForByte) {
  const auto id = std::string(40, '1');
  const Json good = {{"whole", true}, {"head", "refs/heads/main"}, {"refs", {{"refs/heads/main", id}}}};
  EXPECT_EQ(parse_guest_references(good)->tips.size(), 1u);
  EXPECT_FALSE(parse_guest_references({{"whole", false}, {"refs", 7}}));
  const auto with = [&](const char* key, Json value) {
    auto changed = good;
    changed[key] = std::move(value);
    return error_of([&] { parse_guest_references(changed); }).has_value();
  };
  EXPECT_TRUE(with("whole", 1));
  EXPECT_TRUE(with("head", "main"));
  EXPECT_TRUE(with("head", "refs/heads/a\nb"));
  EXPECT_TRUE(with("head", "refs/tags/x"));
  EXPECT_TRUE(with("refs", Json::array()));
  for (const char* name : {"HEAD", "refs/remotes/x", "refs/heads/\u001b[31m", "refs/heads/a b"})
    EXPECT_TRUE(with("refs", {{name, id}})) << name;
  EXPECT_TRUE(with("refs", {{"refs/heads/" + std::string(300, 'a'), id}}));
  EXPECT_TRUE(with("refs", {{"refs/heads/main", "1234"}}));
  EXPECT_TRUE(with("refs", {{"refs/heads/main", 7}}));
  Json many = Json::object();
  for (std::size_t i = 0; i <= reference_limit; ++i) many["refs/heads/" + std::to_string(i)] = id;
  EXPECT_TRUE(with("refs", many));

  const auto bad = [&](const Json& objects) {
    return error_of([&] { parse_guest_objects({{"objects", objects}}, {id}); }).has_value();
  };
  EXPECT_FALSE(bad({{id, base64_encode("x")}}));
  EXPECT_TRUE(bad({{std::string(40, '2'), base64_encode("x")}})) << "nobody asked for it";
  EXPECT_TRUE(bad({{id, "no base64!"}}));
  EXPECT_TRUE(bad({{id, 7}}));
  EXPECT_TRUE(bad(Json::array()));
  EXPECT_TRUE(bad({{id, base64_encode(std::string(object_answer_limit_bytes + 1, 'x'))}}));
}

}  // namespace
}  // namespace agentvm::guest
