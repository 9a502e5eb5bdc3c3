#include "sync/gate.hpp"

#include <gtest/gtest.h>

namespace agentvm::sync {
namespace {

IncomingFile file(const std::string& path, unsigned mode = 0100644, unsigned old_mode = 0) {
  return {.path = path, .old_mode = old_mode, .new_mode = mode};
}
std::string kind(const std::string& path, const GatePolicy& policy = {}) {
  return gate_kind(file(path), policy).value_or("clean");
}
std::string link_kind(const std::string& path, const std::string& target) {
  auto link = file(path, 0120000);
  link.link_target = target;
  return gate_kind(link, {}).value_or("clean");
}

TEST(Gate, EveryKindOfWhatRunsOnTheHost) {
  const std::pair<const char*, const char*> cases[] = {
      {".envrc", "shell-environment"},
      {"sub/.envrc", "shell-environment"},
      {".vscode/tasks.json", "editor"},
      {"sub/.vscode/settings.json", "editor"},
      {"x.code-workspace", "editor"},
      {".idea/workspace.xml", "editor"},
      {".devcontainer/devcontainer.json", "editor"},
      {".exrc", "editor"},
      {".dir-locals.el", "editor"},
      {"package.json", "package-script"},
      {"web/package.json", "package-script"},
      {".npmrc", "package-script"},
      {".yarn/releases/yarn.cjs", "package-script"},
      {"setup.py", "package-script"},
      {"pyproject.toml", "package-script"},
      {"tests/conftest.py", "package-script"},
      {"Cargo.toml", "build-script"},
      {"crates/a/build.rs", "build-script"},
      {".cargo/config.toml", "build-script"},
      {"Makefile", "build-script"},
      {"sub/GNUmakefile", "build-script"},
      {"rules.mk", "build-script"},
      {"CMakeLists.txt", "build-script"},
      {"cmake/x.cmake", "build-script"},
      {"build.gradle.kts", "build-script"},
      {"gradle/wrapper/gradle-wrapper.properties", "build-script"},
      {"gradlew", "build-script"},
      {"pom.xml", "build-script"},
      {"BUILD.bazel", "build-script"},
      {"web/vite.config.ts", "build-script"},
      {"Dockerfile", "build-script"},
      {"package-lock.json", "dependencies"},
      {"requirements-dev.txt", "dependencies"},
      {".github/workflows/ci.yml", "ci"},
      {".gitlab-ci.yml", "ci"},
      {"Jenkinsfile", "ci"},
      {".gitattributes", "git"},
      {"deep/er/.gitattributes", "git"},
      {".gitmodules", "git"},
      {".githooks/pre-commit", "git"},
      {".husky/pre-commit", "git"},
      {".pre-commit-config.yaml", "git"},
      {"agentvm.yaml", "agentvm"},
      {"CLAUDE.md", "agent"},
      {".claude/settings.json", "agent"},
      {".mcp.json", "agent"},
      {"app.desktop", "autostart"},
  };
  for (const auto& [path, expected] : cases) EXPECT_EQ(kind(path), expected) << path;
  for (const auto& [path, expected] : cases) {
    std::string upper = path;
    for (auto& c : upper) c = static_cast<char>(std::toupper(c));
    EXPECT_EQ(kind(upper), expected) << upper;  // some file systems do not tell them apart
  }
}

TEST(Gate, PlainContentPasses) {
  for (const char* path :
       {"README.md", "src/main.cpp", "src/hooks/useThing.ts", "build/notes.txt", "docs/Makefile.md", "a/b/c.py",
        "src/package.json.txt", "my.vscode/x", "envrc", "workspace/x.go", "tests/data/gradlew.txt", "LICENSE",
        "src/vscode/tasks.json", "lib/github/workflows.rs", "images/logo.png", "index.html", "data.json"})
    EXPECT_EQ(kind(path), "clean") << path;
}

TEST(Gate, NewExecutablesAndSubmodules) {
  EXPECT_EQ(gate_kind(file("tool", 0100755), {}), "executable");
  EXPECT_EQ(gate_kind(file("tool", 0100755, 0100644), {}), "executable");
  EXPECT_EQ(gate_kind(file("tool", 0100755, 0120000), {}), "executable");
  EXPECT_EQ(gate_kind(file("tool", 0100755, 0100755), {}), std::nullopt);
  EXPECT_EQ(gate_kind(file("tool", 0100644, 0100755), {}), std::nullopt);
  EXPECT_EQ(gate_kind(file("dep", 0160000), {}), "submodule");
}

TEST(Gate, LinksThatLeaveTheTree) {
  for (const char* target : {"b", "./b", "sub/b", "sub/deep/../b/x", "a..b", "...", ""}) {
    const bool odd = std::string(target) == "sub/deep/../b/x" || std::string(target).empty();
    EXPECT_EQ(link_kind("a", target), odd ? "symlink-out" : "clean") << target;
  }
  EXPECT_EQ(link_kind("d/a", "../b"), "clean");
  EXPECT_EQ(link_kind("d/e/a", "../../b"), "clean");
  for (const char* target :
       {"/etc/passwd", "..", "../x", "./../x", "b/../../x", ".git/hooks", ".GIT/config", "sub/.git/x", "//x"})
    EXPECT_EQ(link_kind("a", target), "symlink-out") << target;
  EXPECT_EQ(link_kind("d/a", "../../x"), "symlink-out");
  EXPECT_EQ(link_kind("d/a", "../.git/hooks"), "symlink-out");
  EXPECT_EQ(gate_kind(file("a", 0120000), {}), "symlink-out");  // its target is too long to be one
}

TEST(Gate, ThePolicyOfTheUser) {
  const GatePolicy policy{{"web/", "*.mk", "/tool"}, {"src/crypto/**", "secret.txt"}, {"/images/box.yaml"}};
  EXPECT_EQ(kind("web/package.json", policy), "clean");
  EXPECT_EQ(kind("sub/rules.mk", policy), "clean");
  EXPECT_EQ(kind("other/package.json", policy), "package-script");
  EXPECT_EQ(gate_kind(file("tool", 0100755), policy), std::nullopt);
  EXPECT_EQ(gate_kind(file("sub/tool", 0100755), policy), "executable");
  EXPECT_EQ(kind("src/crypto/a/b.c", policy), "denied-path");
  EXPECT_EQ(kind("web/secret.txt", policy), "denied-path");
  // What steers us and agents is asked for whatever was allowed.
  const GatePolicy everything{{"**"}, {}, {"/images/box.yaml"}};
  EXPECT_EQ(kind("Makefile", everything), "clean");
  EXPECT_EQ(kind("agentvm.yaml", everything), "agentvm");
  EXPECT_EQ(kind(".claude/settings.json", everything), "agent");
  EXPECT_EQ(kind("images/box.yaml", everything), "agentvm");
}

TEST(PathMatches, AsInGitignore) {
  const std::tuple<const char*, const char*, bool> cases[] = {
      {"*.md", "a.md", true},        {"*.md", "d/a.md", true},    {"*.md", "a.mdx", false},
      {"docs/", "docs/a", true},     {"docs/", "x/docs/a", true}, {"docs/", "docs", false},
      {"/docs/", "x/docs/a", false}, {"docs", "docs/a/b", true},  {"a/*", "a/b", true},
      {"a/*", "a/b/c", true},  // through the folder a/b
      {"a/*.c", "a/b/c.c", false},   {"a/**/c", "a/c", true},     {"a/**/c", "a/x/y/c", true},
      {"**/c", "c", true},           {"a/**", "a/b/c", true},     {"a/**", "a", false},
      {"a?c", "abc", true},          {"a?c", "a/c", false},       {"", "a", false},
      {"**", "a/b", true},           {"a*", "b/abc", true},       {"x/a*z", "x/abcz", true},
  };
  for (const auto& [glob, path, expected] : cases) EXPECT_EQ(path_matches(glob, path), expected) << glob << " " << path;
}

/// A guest picks the paths: none may make a pattern slow. Quadratic here is minutes of backtracking elsewhere.
TEST(PathMatches, DoesNotBacktrack) {
  std::string glob, path(4000, 'a');
  for (int i = 0; i < 40; ++i) glob += "*a";
  EXPECT_FALSE(path_matches(glob + "b", path));
}

}  // namespace
}  // namespace agentvm::sync
