#include "tests/contract/sync/git_fixture.hpp"

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "vmm/base/files.hpp"

namespace agentvm::test {
namespace {

ProcessSpec git_spec(const fs::path& where, std::vector<std::string> args) {
  ProcessSpec spec;
  spec.argv = {"git"};
  spec.argv.insert(spec.argv.end(), args.begin(), args.end());
  spec.cwd = where.string();
  const char* path = std::getenv("PATH");
  spec.env = std::map<std::string, std::string>{{"PATH", path ? path : "/usr/bin:/bin"},
                                                {"HOME", "/nonexistent"},
                                                {"LC_ALL", "C"},
                                                {"GIT_CONFIG_GLOBAL", "/dev/null"},
                                                {"GIT_CONFIG_NOSYSTEM", "1"},
                                                {"GIT_AUTHOR_NAME", "Ann Author"},
                                                {"GIT_AUTHOR_EMAIL", "ann@example.org"},
                                                {"GIT_COMMITTER_NAME", "Carl Committer"},
                                                {"GIT_COMMITTER_EMAIL", "carl@example.org"}};
  return spec;
}

}  // namespace

TempDir::TempDir() {
  std::string pattern = (fs::temp_directory_path() / "agentvm-test-XXXXXX").string();
  if (!::mkdtemp(pattern.data())) throw std::runtime_error("mkdtemp");
  path_ = fs::canonical(pattern);
}
TempDir::~TempDir() {
  try {
    remove_tree(path_);
  } catch (const std::exception&) {
  }
}

Repo Repo::init(const fs::path& path, const std::string& branch) {
  fs::create_directories(path);
  Repo repo(path);
  repo.git({"init", "--quiet", "--initial-branch=" + branch});
  return repo;
}

Repo Repo::clone(const Repo& from, const fs::path& to) {
  from.git({"clone", "--quiet", "--no-local", from.path().string(), to.string()});
  return Repo(to);
}

std::string Repo::git(std::vector<std::string> args, const std::string& input) const {
  const auto what = args.empty() ? "" : args.front();
  auto result = run(git_spec(path_, std::move(args)), Deadline::after(std::chrono::seconds(120)), input, 64u << 20);
  if (!result.status.ok()) throw std::runtime_error("git " + what + ": " + result.err + result.out);
  while (result.out.ends_with('\n')) result.out.pop_back();
  return result.out;
}

bool Repo::git_ok(std::vector<std::string> args) const {
  return run(git_spec(path_, std::move(args)), Deadline::after(std::chrono::seconds(120))).status.ok();
}

std::string Repo::git_words(std::vector<std::string> args) const {
  const auto result = run(git_spec(path_, std::move(args)), Deadline::after(std::chrono::seconds(120)), {}, 64u << 20);
  return result.out + result.err;
}

void Repo::write(const std::string& name, const std::string& content, bool executable) const {
  fs::create_directories((path_ / name).parent_path());
  std::ofstream(path_ / name, std::ios::binary) << content;
  if (executable) fs::permissions(path_ / name, fs::perms::owner_exec, fs::perm_options::add);
}

std::string Repo::read(const std::string& name) const {
  std::ifstream in(path_ / name, std::ios::binary);
  if (!in) throw std::runtime_error("no file " + name);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

std::string Repo::commit(const std::string& name, const std::string& content, const std::string& message) const {
  write(name, content);
  git({"add", "--", name});
  git({"commit", "--quiet", "--message=" + message});
  return tip();
}

}  // namespace agentvm::test
