// One fixture per rule, each also shown to `git fsck --strict`: what git refuses we refuse; where only one of the two
// does, the table says so.
#include "sync/git/object_rules.hpp"

#include <random>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sync/git/lookalikes.hpp"
#include "sync/git/tree.hpp"
#include "tests/contract/sync/git_fixture.hpp"

namespace agentvm::git {
namespace {

using testing::HasSubstr;
enum class By { both, us, git, nobody };

class ObjectRules : public testing::Test {
 protected:
  ObjectRules() : repo(test::Repo::init(dir / "r")) {
    blob = repo.git({"hash-object", "-w", "--stdin"}, "x\n");
    tree = repo.git({"mktree"}, "100644 blob " + blob + "\tf\n");
    commit = repo.git({"commit-tree", tree, "-m", "base"});
  }
  static std::string raw(const std::string& hex) {
    std::string bytes;
    for (std::size_t i = 0; i < hex.size(); i += 2)
      bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
    return bytes;
  }
  static std::string entry(const std::string& mode, const std::string& name, const std::string& id) {
    return mode + " " + name + std::string(1, '\0') + raw(id);
  }
  std::string file(const std::string& name, const std::string& mode = "100644") const {
    return entry(mode, name, mode == "40000" ? tree : blob);
  }

  bool git_refuses(const std::string& type, const std::string& content) {
    const auto id = repo.git({"hash-object", "-t", type, "--literally", "-w", "--stdin"}, content);
    const bool refused = !repo.git_ok({"fsck", "--strict", "--no-dangling", "--no-reflogs"});
    std::filesystem::remove(repo.path() / ".git/objects" / id.substr(0, 2) / id.substr(2));
    return refused;
  }
  void expect(By by, const std::string& type, const std::string& content, const std::string& words = {}) {
    const auto problem = type == "tree"     ? tree_problem(content)
                         : type == "commit" ? commit_problem(content)
                                            : tag_problem(content);
    EXPECT_EQ(problem.has_value(), by == By::both || by == By::us)
        << type << ": " << problem.value_or("accepted") << "\n"
        << content;
    if (!words.empty()) {
      EXPECT_THAT(problem.value_or(""), HasSubstr(words));
    }
    EXPECT_EQ(git_refuses(type, content), by == By::both || by == By::git) << type << " " << content;
  }

  test::TempDir dir;
  test::Repo repo;
  std::string blob, tree, commit;
};

TEST_F(ObjectRules, SoundTrees) {
  expect(By::nobody, "tree", "");
  expect(By::nobody, "tree", file("a") + file("a.b") + file("c", "40000"));
  expect(By::nobody, "tree", file("a-b") + file("a", "40000") + file("a0"));
  expect(By::nobody, "tree", file("x", "100755") + file("y", "120000") + entry("160000", "z", commit));
  for (const char* name :
       {".gitignore", ".github", "git", ".gi", "git~2", "a.git", ".git2", "gitmod~", "\xc3\xbc", "a\\b", "gitmodules"})
    expect(By::nobody, "tree", file(name));
}

TEST_F(ObjectRules, NamesOfEntries) {
  for (const char* name : {".git",
                           ".GIT",
                           ".gIt",
                           ".git.",
                           ".git ",
                           ".git . .",
                           ".git::$INDEX_ALLOCATION",
                           "git~1",
                           "GIT~1",
                           "git~1 ",
                           ".g\xe2\x80\x8cit",
                           "\xe2\x80\xaa.git",
                           ".git\xef\xbb\xbf",
                           ".g\xe2\x81\xaait",
                           ".git\xff",
                           ".GIT\xc3x",
                           ".git\xed\xa0\x80 ",
                           "a\\.git",
                           ".git\\x",
                           "..\\.GIT"})
    expect(By::both, "tree", file(name), "'.git'");
  expect(By::both, "tree", file("."), "named '.'");
  expect(By::both, "tree", file(".."), "named '..'");
  expect(By::both, "tree", file(""), "without a name");
  expect(By::both, "tree", file("a/b"), "'/'");
  expect(By::us, "tree", file(std::string(256, 'x')), "longer than 255");
}

TEST_F(ObjectRules, Gitmodules) {
  expect(By::nobody, "tree", file(".gitmodules"));
  for (const char* name : {".gitmodules", ".GITMODULES", ".gitmodules ", "gitmod~1", "GITMOD~4", "gi7eba~1", "GI7EB~10",
                           ".git\xe2\x80\x8cmodules"})
    expect(By::both, "tree", file(name, "120000"), "symbolic link for .gitmodules");
  for (const char* name : {".gitmodules", ".GITMODULES", "gitmod~1"})
    expect(By::both, "tree", file(name, "40000"), "folder or submodule for .gitmodules");
  expect(By::both, "tree", entry("160000", ".gitmodules", commit), "folder or submodule for .gitmodules");
  for (const char* name : {".GitModules", "gitmod~1"}) expect(By::us, "tree", file(name), "take for '.gitmodules'");
}

TEST_F(ObjectRules, Gitattributes) {
  expect(By::nobody, "tree", file(".gitattributes"));
  expect(By::nobody, "tree", file(".gitattributes", "120000"));  // git reads none through a link
  for (const char* name : {".gitattributes", ".GitAttributes", "gitatt~1", "GI7D29~1",
                           ".git\xe2\x80\x8c"
                           "attributes"})
    expect(By::both, "tree", file(name, "40000"), "folder or submodule for .gitattributes");
  EXPECT_FALSE(gitattributes_problem("* text\n" + std::string(2047, 'a') + "\n"));
  // What git says to the same content, as a file of that name in a tree.
  for (const std::size_t length : {2047, 2048, 5000}) {
    const auto text = "x " + std::string(length - 2, 'a') + "\n";
    const auto id = repo.git({"hash-object", "-w", "--stdin"}, text);
    EXPECT_EQ(gitattributes_problem(text).has_value(), git_refuses("tree", entry("100644", ".gitattributes", id)))
        << length;
    EXPECT_EQ(gitattributes_problem(text).has_value(), length >= 2048);
  }
}

TEST_F(ObjectRules, ModesOrderAndIds) {
  expect(By::both, "tree", file("a", "040000").substr(0, 9) + raw(tree), "zero-padded");
  expect(By::us, "tree", file("a", "100664"), "mode 100664");
  expect(By::us, "tree", file("a", "100600"), "mode 100600");
  expect(By::both, "tree", file("a") + file("a"), "same name");
  expect(By::both, "tree", file("a") + file("a.b") + file("a", "40000"), "same name");
  expect(By::both, "tree", file("b") + file("a"), "out of order");
  expect(By::both, "tree", file("a", "40000") + file("a.b"), "out of order");
  expect(By::both, "tree", entry("100644", "a", std::string(40, '0')), "null object id");
}

TEST_F(ObjectRules, TreesCutShort) {
  const auto whole = file("some-name");
  for (std::size_t size = 1; size < whole.size(); ++size) EXPECT_TRUE(tree_problem(whole.substr(0, size))) << size;
  EXPECT_TRUE(tree_problem("100648 a" + std::string(1, '\0') + raw(blob)));
  EXPECT_TRUE(tree_problem(" a" + std::string(1, '\0') + raw(blob)));
  EXPECT_TRUE(tree_problem("77777777777777777 a" + std::string(1, '\0') + raw(blob)));
}

TEST_F(ObjectRules, Commits) {
  const std::string who = "A U Thor <a@b> 1700000000 +0100";
  const auto make = [&](const std::string& author, const std::string& committer) {
    return "tree " + tree + "\nauthor " + author + "\ncommitter " + committer + "\n\nmessage\n";
  };
  expect(By::nobody, "commit", make(who, who));
  expect(By::nobody, "commit", make(" <a@b> 0 +0000", who));
  expect(By::nobody, "commit",
         "tree " + tree + "\nparent " + commit + "\nauthor " + who + "\ncommitter " + who +
             "\nencoding x\ngpgsig -\n more\n\nm");
  for (const char* bad :
       {"A <a@b> 01700000000 +0100", "A <a@b> 1700000000", "A <a@b> +0100", "A <a@b> 1700000000 0100",
        "A <a@b> 1700000000 +01", "A <a@b>", "A a@b 1 +0000", "<a@b> 1 +0000", "A<a@b> 1 +0000", "A <a<b> 1 +0000",
        "A > <a@b> 1 +0000", "A <a@b>1 +0000", "A <a@b> 99999999999999999999 +0000", "A <a@b> x +0000"})
    expect(By::both, "commit", make(bad, who), "author");
  expect(By::both, "commit", make(who, "A <a@b>"), "committer");
  expect(By::both, "commit", "author " + who + "\ncommitter " + who + "\n\nm", "tree line");
  expect(By::both, "commit", "tree " + tree.substr(1) + "\nauthor " + who + "\ncommitter " + who + "\n\nm",
         "tree line");
  expect(By::both, "commit", "tree " + tree + "\nparent 12\nauthor " + who + "\ncommitter " + who + "\n\nm",
         "parent line");
  expect(By::both, "commit", "tree " + tree + "\ncommitter " + who + "\n\nm", "author line");
  expect(By::both, "commit", "tree " + tree + "\nauthor " + who + "\nauthor " + who + "\ncommitter " + who + "\n\nm",
         "more than one");
  expect(By::both, "commit", "tree " + tree + "\nauthor " + who + "\n\nm", "committer line");
  expect(By::both, "commit", make(who, who) + std::string(1, '\0'), "NUL");
  expect(By::both, "commit", "tree " + tree + "\nauthor " + who + "\ncommitter " + who, "without an end");
}

TEST_F(ObjectRules, Tags) {
  const std::string who = "A U Thor <a@b> 1700000000 +0100";
  const auto make = [&](const std::string& id, const std::string& type, const std::string& name) {
    return "object " + id + "\ntype " + type + "\ntag " + name + "\ntagger " + who + "\n\nm\n";
  };
  expect(By::nobody, "tag", make(commit, "commit", "v1"));
  expect(By::both, "tag", make("12", "commit", "v1"), "object line");
  expect(By::both, "tag", make(commit, "thing", "v1"), "type line");
  expect(By::us, "tag", make(commit, "commit", "v..1"), "valid name");
  expect(By::us, "tag", "object " + commit + "\ntype commit\ntag v1\n\nm\n", "tagger");
  expect(By::both, "tag", "object " + commit + "\ntype commit\ntag v1\ntagger A <a@b>\n\nm\n", "tagger");
}

/// Thousands of objects that are almost sound, shown to one `git fsck --strict`: what it calls an error, we refuse.
TEST_F(ObjectRules, NothingPassesThatGitRefuses) {
  const std::string who = "A U Thor <a@b> 1700000000 +0100";
  const std::vector<std::pair<std::string, std::string>> seeds = {
      {"tree", file(".gitignore") + file("a", "100755") + file("a.b", "120000") + file("sub", "40000")},
      {"tree", file(".gitattributes") + file(".gitmodules") + file("git~2") + file("z", "40000")},
      {"commit", "tree " + tree + "\nparent " + commit + "\nauthor " + who + "\ncommitter " + who + "\n\nmessage\n"},
      {"tag", "object " + commit + "\ntype commit\ntag v1\ntagger " + who + "\n\nmessage\n"}};
  const std::vector<std::string> pieces = {"\n",
                                           " ",
                                           "0",
                                           "040000 ",
                                           "100644 ",
                                           "120000 ",
                                           "160000 ",
                                           "-",
                                           "<",
                                           ">",
                                           "+",
                                           "..",
                                           ".git",
                                           ".GIT ",
                                           "git~1",
                                           "/",
                                           "author ",
                                           "parent ",
                                           "\xe2\x80\x8c",
                                           std::string(1, '\0'),
                                           std::string(20, '\0'),
                                           "99999999999999999999"};
  std::mt19937 random(20260131);  // the same objects each time
  const auto below = [&](std::size_t limit) { return random() % limit; };
  std::map<std::string, std::vector<std::string>> contents;  // type -> objects
  for (int i = 0; i < 6000; ++i) {
    auto [type, text] = seeds[below(seeds.size())];
    for (auto changes = 1 + below(2); changes > 0; --changes) {
      const auto at = below(text.size() + 1);
      switch (below(4)) {
        case 0:
          text.insert(at, pieces[below(pieces.size())]);
          break;
        case 1:
          text.erase(at, 1 + below(24));
          break;
        case 2:
          if (at < text.size()) text[at] = static_cast<char>(random());
          break;
        default:
          if (at < text.size()) text.replace(at, 1 + below(8), pieces[below(pieces.size())]);
      }
    }
    contents[type].push_back(text);
  }
  std::map<std::string, std::pair<std::string, std::string>> objects;  // id -> type, content
  for (const auto& [type, texts] : contents) {
    std::string paths;
    for (std::size_t i = 0; i < texts.size(); ++i) {
      const auto name = type + std::to_string(i);
      repo.write("objects/" + name, texts[i]);
      paths += "objects/" + name + "\n";
    }
    std::istringstream ids(
        repo.git({"hash-object", "-t", type, "--literally", "--no-filters", "-w", "--stdin-paths"}, paths));
    std::size_t count = 0;
    for (std::string id; std::getline(ids, id); ++count) objects.emplace(id, std::pair(type, texts.at(count)));
    ASSERT_EQ(count, texts.size());
  }
  // "error in tree <id>: treeNotSorted: ..."; what is only missing or dangling is no matter of the rules.
  const auto said = repo.git_words({"fsck", "--strict", "--no-dangling", "--no-reflogs"});
  std::istringstream lines(said);
  std::size_t refused = 0;
  for (std::string line; std::getline(lines, line);) {
    const std::string start = "error in ";
    if (!line.starts_with(start) || line.ends_with(": broken links")) continue;  // those are the walk's to find
    const auto type = line.substr(start.size(), line.find(' ', start.size()) - start.size());
    const auto id = line.substr(start.size() + type.size() + 1, 40);
    const auto found = objects.find(id);
    if (found == objects.end()) continue;
    ++refused;
    const auto& text = found->second.second;
    const auto problem = type == "tree"     ? tree_problem(text)
                         : type == "commit" ? commit_problem(text)
                                            : tag_problem(text);
    EXPECT_TRUE(problem) << line << "\n" << text;
  }
  EXPECT_GT(refused, 1000u);
  // And not by refusing everything.
  const auto taken = std::count_if(objects.begin(), objects.end(), [](const auto& object) {
    const auto& [type, text] = object.second;
    return !(type == "tree" ? tree_problem(text) : type == "commit" ? commit_problem(text) : tag_problem(text));
  });
  EXPECT_GT(taken, 300);
}

TEST(GitmodulesContent, RefusesWhatACommandLineWouldObey) {
  EXPECT_FALSE(
      gitmodules_problem("[submodule \"lib\"]\n\tpath = third/lib\n\turl = ../lib.git ; note\n# x\n[other]\n\tkey\n"));
  EXPECT_FALSE(gitmodules_problem(""));
  for (const char* url :
       {"https://example.org/a.git", "https://u:p@example.org:8443/a%20b", "../lib", "./lib", "git@h:x", "ssh://h/x",
        "/srv/x.git", "file:///srv/x", "https://[::1]:8/x", "http://h:/a/../b?c%2e", "ssh://h:x/../../%"})
    EXPECT_FALSE(gitmodules_problem("[submodule \"a\"]\n\tpath = a\n\turl = " + std::string(url) + "\n")) << url;
  for (const char* bad : {"[submodule \"../x\"]\n",
                          "[submodule \"a/../../x\"]\n",
                          "[submodule \"a\\\\..\\\\x\"]\n",
                          "[submodule \"\"]\n",
                          "[submodule \"a\"]\nurl = -u./payload\n",
                          "[submodule \"a\"]\nurl = \"-x\"\n",
                          "[submodule \"a\"]\nurl = ext::sh -c x\n",
                          "[submodule \"a\"]\nurl = https://example.org/%0ahost=other.example\n",
                          "[submodule \"a\"]\nurl = git://example.org/x%0Dy\n",
                          "[submodule \"a\"]\nurl = https:///x\n",
                          "[submodule \"a\"]\nurl = http::///x\n",
                          "[submodule \"a\"]\nurl = http::x\n",
                          "[submodule \"a\"]\nurl = https://user@/x\n",
                          "[submodule \"a\"]\nurl = https://a@b@c/x\n",
                          "[submodule \"a\"]\nurl = https://ex ample.org/x\n",
                          "[submodule \"a\"]\nurl = https://h\\\\/x\n",
                          "[submodule \"a\"]\nurl = HTTPS://h:0/x\n",
                          "[submodule \"a\"]\nurl = https://h:65536/x\n",
                          "[submodule \"a\"]\nurl = https://h:8x/x\n",
                          "[submodule \"a\"]\nurl = ftp::gopher://h:x/x\n",
                          "[submodule \"a\"]\nurl = https::://h/x\n",
                          "[submodule \"a\"]\nurl = http::1s://h/x\n",
                          "[submodule \"a\"]\nurl = http::s_s://h/x\n",
                          "[submodule \"a\"]\nurl = https://h/%zz\n",
                          "[submodule \"a\"]\nurl = https://h/x%2\n",
                          "[submodule \"a\"]\nurl = https://h/../x\n",
                          "[submodule \"a\"]\nurl = https://h/a/%2E./.%2e/x\n",
                          "[submodule \"a\"]\nurl = ../../../../:localhost:8080/foo.git\n",
                          "[submodule \"a\"]\nurl = ..//example.org/foo.git\n",
                          "[submodule \"a\"]\npath = -x\n",
                          "[submodule \"a\"]\npath = ../x\n",
                          "[submodule \"a\"]\npath = /x\n",
                          "[submodule \"a\"]\nupdate = !touch x\n",
                          "[submodule \"a\"]\nURL = -x\n",
                          "[submodule.a/../b]\n",
                          "[SubModule \"../x\"]\n",
                          "[submodule.. \"\"]\n",
                          "[submodule \"a\"]\rupdate = !x\n",
                          "[submodule \"a\"]\npath = \"x\\n\"\n",
                          "[submodule \"a\"]\npath = \"x\r\"\n",
                          "[submodule \"a\"",
                          "[submodule \"a",
                          "[submodule \"a\"]\nurl = \"x\n",
                          "[submodule \"a\"]\nurl = \\q\n"})
    EXPECT_TRUE(gitmodules_problem(bad)) << bad;
}

/// Four thousand files that are almost sound, each as the .gitmodules of a tree, shown to one `git fsck --strict`.
TEST_F(ObjectRules, NoGitmodulesPassesThatGitRefuses) {
  const std::vector<std::string> seeds = {
      "[submodule \"lib\"]\n\tpath = third/lib\n\turl = ../lib.git\n",
      "[submodule \"a\"]\npath = a\nurl = https://example.org/a.git\nupdate = checkout\n",
      "[submodule \"a\"]\n\turl = \"ssh://h/x y\" ; note\n[other]\n\tkey\n[submodule \"b\"]\n\tpath = b\\\n/c\n"};
  const std::vector<std::string> pieces = {"..",          "/",
                                           "-",           "\n",
                                           "\"",          "\\",
                                           "!sh x",       "=",
                                           "[",           "]",
                                           "#",           "ext::",
                                           "%0a",         "update = !x\n",
                                           "path = -u\n", "url = -u\n",
                                           "../",         "..\\",
                                           "\r",          "[submodule \"../x\"]\n",
                                           "URL",         "http://",
                                           "::",          ":",
                                           "\t",          std::string(1, '\0'),
                                           "%2e%2e",      "%g",
                                           "@",           "?",
                                           "70000",       "0"};
  std::mt19937 random(20261129);  // the same files each time
  const auto below = [&](std::size_t limit) { return random() % limit; };
  std::map<std::string, std::string> files;  // id -> content
  std::string paths, trees;
  std::vector<std::string> texts;
  for (int i = 0; i < 4000; ++i) {
    auto text = seeds[below(seeds.size())];
    for (auto changes = 1 + below(3); changes > 0; --changes) {
      const auto at = below(text.size() + 1);
      if (below(3) != 0)
        text.insert(at, pieces[below(pieces.size())]);
      else
        text.erase(at, 1 + below(6));
    }
    repo.write("objects/" + std::to_string(i), text);
    paths += "objects/" + std::to_string(i) + "\n";
    texts.push_back(text);
  }
  std::istringstream ids(repo.git({"hash-object", "--no-filters", "-w", "--stdin-paths"}, paths));
  std::size_t count = 0;
  for (std::string id; std::getline(ids, id); ++count) {
    trees += "100644 blob " + id + "\t.gitmodules\n\n";  // an empty line ends a tree of the batch
    files.emplace(id, texts.at(count));
  }
  ASSERT_EQ(count, texts.size());
  repo.git({"mktree", "--batch"}, trees);
  const auto said = repo.git_words({"fsck", "--strict", "--no-dangling", "--no-reflogs"});
  std::istringstream lines(said);
  std::size_t refused = 0;
  for (std::string line; std::getline(lines, line);) {
    const std::string start = "error in blob ";
    if (!line.starts_with(start)) continue;
    const auto found = files.find(line.substr(start.size(), 40));
    if (found == files.end()) continue;
    ++refused;
    EXPECT_TRUE(gitmodules_problem(found->second)) << line << "\n" << found->second;
  }
  EXPECT_GT(refused, 60u);
  EXPECT_GT(
      std::count_if(files.begin(), files.end(), [](const auto& file) { return !gitmodules_problem(file.second); }),
      100);
}

}  // namespace
}  // namespace agentvm::git
