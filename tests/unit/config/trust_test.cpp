// Row 16 of the threat model with the user's trust: over the whole table of keys, what a guest commits changes nothing
// until the user took exactly that.

#include "vmm/trust.hpp"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include "tests/support/temporary_folder.hpp"

namespace agentvm {
namespace {

using test::error_of;
using testing::HasSubstr;
using testing::IsEmpty;

/// Two different values of a key, as a file says them. Equal where a key has one value only.
std::pair<std::string, std::string> two_values(const ConfigKey& key) {
  const auto bar = key.choices.find('|');
  const std::string first(key.choices.substr(0, bar)), last(key.choices.substr(key.choices.rfind('|') + 1));
  switch (key.type) {
    case KeyType::size:
    case KeyType::count:
    case KeyType::choice:
      return key.default_value == last ? std::pair(first, last) : std::pair(last, first);
    case KeyType::boolean:
      return key.default_value == "true" ? std::pair("false", "true") : std::pair("true", "false");
    case KeyType::hosts:
      return {"[one.example]", "[one.example, two.example:8443]"};
    case KeyType::grants:
      return {"['one.example:22']", "['one.example:22', 'localhost:5432']"};
    case KeyType::variables:
      return {"[API_KEY]", "[API_KEY, OTHER_*]"};
    case KeyType::assignments:
      return {"['A=one']", "['A=one', 'B=two']"};
    case KeyType::choices:
      return {"[" + first + "]", "[" + first + ", " + last + "]"};
    case KeyType::globs:
      return {"['docs/**']", "['**']"};
    case KeyType::caps:
      return {"[one.example 1 requests/day]", "[one.example 2 requests/day]"};
    case KeyType::image:
      return {"./good.yaml", "./evil.yaml"};
    case KeyType::levels:
      return {"'*:info'", "'*:debug'"};
    case KeyType::proxy:
      return {"environment", "http://proxy.example:3128"};
    case KeyType::secrets:
      return {"{KEY: {hosts: one.example, from: 'env:KEY'}}", "{KEY: {hosts: two.example, from: 'env:KEY'}}"};
    default:
      return {"first", "second"};
  }
}

class TrustTest : public testing::Test {
 protected:
  TrustTest() : store_(folder_ / "state") {
    ensure_private_dir(project_);
    write_file_atomic(project_ / "good.yaml", "good");
    write_file_atomic(project_ / "evil.yaml", "evil");
  }

  ConfigInput commit(const std::string& text) const {
    return {.project = ConfigFile{project_ / "agentvm.yaml", text}, .trust = store_.lookup(project_)};
  }
  ConfigInput commit(const ConfigKey& key, const std::string& value) const {
    return commit(std::string(key.name) + ": " + value + "\n");
  }
  /// What `agentvm trust` does once the user said yes.
  void trust(const ConfigInput& input) {
    TrustedDigests digests;
    for (const auto& [key, value, mark] : widening_values(*input.project))
      digests[std::string(key->name)] = trust_digest(*key, value, project_);
    store_.write(project_, digests);
  }
  fs::path trust_file() const {
    for (const auto& entry : fs::directory_iterator(folder_ / "state/trust")) return entry.path();
    return {};
  }

  test::TemporaryFolder folder_;
  fs::path project_ = folder_ / "project";
  TrustStore store_;
};

TEST_F(TrustTest, EveryWideningKeyCountsAsItWasTrustedAndNotAsItWasChanged) {
  int seen = 0;
  for (const auto& key : config_keys()) {
    if (key.key_class != KeyClass::widening) continue;
    SCOPED_TRACE(key.name);
    ++seen;
    const auto standard = resolve_config({}).at(key.name).value;
    const auto [first, second] = two_values(key);
    store_.remove(project_);
    const auto before = resolve_config(commit(key, first));
    EXPECT_EQ(before.at(key.name).value, standard);
    ASSERT_EQ(before.warnings().size(), 1U);
    EXPECT_THAT(before.warnings()[0],
                HasSubstr("does not count until you trust it: agentvm trust " + project_.string()));

    trust(commit(key, first));
    const auto trusted = resolve_config(commit(key, first));
    EXPECT_EQ(trusted.at(key.name).origin.layer, ConfigLayer::project);
    EXPECT_THAT(trusted.warnings(), IsEmpty());

    if (first == second) continue;
    const auto changed = resolve_config(commit(key, second));
    EXPECT_EQ(changed.at(key.name).value, standard) << "the value that was not shown must not count";
    EXPECT_EQ(changed.at(key.name).origin.layer, ConfigLayer::default_value);
    ASSERT_EQ(changed.warnings().size(), 1U);
    EXPECT_THAT(changed.warnings()[0], HasSubstr("has changed since you trusted it"));
    EXPECT_THAT(changed.warnings()[0], HasSubstr("'" + std::string(key.name) + "'"));
    EXPECT_THAT(resolve_config(commit(key, first)).warnings(), IsEmpty()) << "a change taken back is what was trusted";
  }
  EXPECT_GT(seen, 8);
}

TEST_F(TrustTest, OneChangedKeyDoesNotTakeTheOthersAlong) {
  trust(commit("network: nat\negress: {allow: [one.example]}\nmemory: 2G\n"));
  const auto config =
      resolve_config(commit("memory: 3G\negress: {allow: [evil.example]}\n# moved down\nnetwork: 'nat'\n"));
  EXPECT_EQ(config.text("network"), "nat");
  EXPECT_THAT(config.list("egress.allow"), IsEmpty());
  EXPECT_EQ(config.warnings().size(), 1U);
}

TEST_F(TrustTest, TrustNeverReachesWhatRunsOnTheHost) {
  for (const auto& key : config_keys()) {
    if (key.key_class != KeyClass::host_executing) continue;
    const auto input = commit(key, two_values(key).first);
    // Neither by the file nor by a digest that somebody put there.
    const auto parsed = resolve_config({.user = input.project}).at(key.name).value;
    store_.write(project_, {{std::string(key.name), trust_digest(key, parsed, project_)}});
    const auto refused = error_of([&] { resolve_config(commit(key, two_values(key).first)); });
    ASSERT_TRUE(refused) << key.name;
    EXPECT_EQ(refused->code(), ErrorCode::decision_needed) << key.name;
    EXPECT_EQ(error_of([&] { widening_values(*input.project); })->code(), ErrorCode::decision_needed) << key.name;
  }
}

TEST_F(TrustTest, AChangedRecipeIsNotTheOneThatWasTrusted) {
  const auto input = commit("image: ./good.yaml\n");
  trust(input);
  EXPECT_EQ(resolve_config(commit("image: ./good.yaml\n")).text("image"), "./good.yaml");
  EXPECT_EQ(resolve_config(commit("image: good.yaml\n")).text("image"), "default")
      << "another spelling is another value";
  write_file_atomic(project_ / "good.yaml", "good\npackages: [more]");
  EXPECT_EQ(resolve_config(commit("image: ./good.yaml\n")).text("image"), "default");
  fs::remove(project_ / "good.yaml");
  const auto gone = resolve_config(commit("image: ./good.yaml\n"));
  EXPECT_EQ(gone.text("image"), "default");
  EXPECT_THAT(gone.warnings()[0], HasSubstr("has changed"));
  EXPECT_EQ(error_of([&] { trust(input); })->code(), ErrorCode::not_found) << "what is not there cannot be shown";
  fs::create_symlink("evil.yaml", project_ / "good.yaml");
  EXPECT_EQ(resolve_config(commit("image: ./good.yaml\n")).text("image"), "default");
  fs::remove(project_ / "good.yaml");
  ASSERT_EQ(::mkfifo((project_ / "good.yaml").c_str(), 0600), 0);
  EXPECT_EQ(resolve_config(commit("image: ./good.yaml\n")).text("image"), "default") << "and nobody waits for a pipe";
}

TEST_F(TrustTest, ProjectsAreKeptApartAndTrustCanBeTakenBack) {
  const auto text = "network: nat\n";
  trust(commit(text));
  const auto other = folder_ / "other";
  const auto elsewhere =
      resolve_config({.project = ConfigFile{other / "agentvm.yaml", text}, .trust = store_.lookup(other)});
  EXPECT_EQ(elsewhere.text("network"), "filtered");
  EXPECT_TRUE(store_.remove(project_));
  EXPECT_FALSE(store_.remove(project_));
  EXPECT_EQ(resolve_config(commit(text)).text("network"), "filtered");
}

TEST_F(TrustTest, TheFileIsTheUsersAloneAndNothingElseIsBelieved) {
  const auto text = "network: nat\n";
  trust(commit(text));
  struct stat status {};
  ASSERT_EQ(::stat(trust_file().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600U);
  ASSERT_EQ(::stat(trust_file().parent_path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0700U);
  const auto good = read_file(trust_file());
  auto of_other = parse_json(good, "trust");
  of_other["project"] = "/elsewhere";
  auto of_tomorrow = parse_json(good, "trust");
  of_tomorrow["schema"] = "agentvm.trusted/2";
  auto odd = parse_json(good, "trust");
  odd["keys"] = {{"network", 1}};
  for (const auto& bad :
       {std::string(), std::string("{"), dump_json(of_other), dump_json(of_tomorrow), dump_json(odd)}) {
    write_file_atomic(trust_file(), bad);
    EXPECT_EQ(resolve_config(commit(text)).text("network"), "filtered") << bad;
  }
  write_file_atomic(trust_file(), good);
  EXPECT_EQ(resolve_config(commit(text)).text("network"), "nat");
}

}  // namespace
}  // namespace agentvm
