#include "vmm/plan.hpp"

#include <gmock/gmock.h>

#include "tests/support/temporary_folder.hpp"

namespace agentvm {
namespace {

using test::error_of;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// A request for /src/demo on a host of 32 GiB with 8 CPUs; files come from `files`.
struct PlanTest : testing::Test {
  std::map<std::string, std::string> files;
  PlanRequest request{.project = {"/src/demo", "", "/src/demo/.git"},
                      .cwd = "/src/demo/sub",
                      .user_config = "/home/u/config.yaml",
                      .host = {ByteSize::gibibytes(32), ByteSize::gibibytes(24), 8, "boot"},
                      .head_branch = "main"};
  PlanTest() {
    request.read_config = [this](const std::filesystem::path& path) -> std::optional<ConfigFile> {
      const auto found = files.find(path.string());
      return found == files.end() ? std::nullopt : std::optional(ConfigFile{path, found->second});
    };
  }
};

TEST_F(PlanTest, DefaultsResolveWithoutWarnings) {
  const auto plan = resolve_plan(request);
  EXPECT_EQ(plan.name.value.str(), "demo");
  EXPECT_EQ(plan.name.origin.layer, ConfigLayer::derived);
  EXPECT_EQ(plan.branch.value, "main");
  EXPECT_EQ(plan.memory.value, ByteSize::gibibytes(8));
  EXPECT_EQ(plan.vcpus.value, 4U);
  EXPECT_TRUE(plan.nested.value);
  EXPECT_EQ(plan.workspace.value, WorkspaceMode::virtiofs);
  EXPECT_EQ(plan.network.value, NetworkMode::filtered);
  EXPECT_EQ(plan.image.value.str(), "default");
  EXPECT_EQ(plan.accelerator.value, AcceleratorWish::automatic);
  EXPECT_EQ(plan.libvirt_uri.value, "auto");
  EXPECT_THAT(plan.warnings, IsEmpty());
}

TEST_F(PlanTest, MachinesWithinGetHalfOfWhatTheGuestGetsOrWhatIsSaid) {
  auto plan = resolve_plan(request);
  EXPECT_EQ(plan.nested_memory.value, ByteSize::gibibytes(4));
  EXPECT_EQ(plan.nested_vcpus.value, 2U);
  EXPECT_EQ(plan.nested_memory.origin.layer, ConfigLayer::derived);
  request.flags["vcpus"] = "1";
  EXPECT_EQ(resolve_plan(request).nested_vcpus.value, 1U);
  files["/home/u/config.yaml"] = "limits: {nested_memory: 1G, nested_vcpus: 3}";
  plan = resolve_plan(request);
  EXPECT_EQ(plan.nested_memory.value, ByteSize::gibibytes(1));
  EXPECT_EQ(plan.nested_memory.origin.layer, ConfigLayer::user);
  EXPECT_EQ(plan.nested_vcpus.value, 1U) << "no more than the guest has";
  files["/home/u/config.yaml"] = "limits: {nested_memory: 64G}";
  EXPECT_EQ(resolve_plan(request).nested_memory.value, plan.memory.value);
}

TEST_F(PlanTest, SameRequestSamePlan) {
  request.taken = [](const SandboxName& name) { return name.str() == "demo"; };
  EXPECT_EQ(resolve_plan(request).to_json(), resolve_plan(request).to_json());
}

TEST_F(PlanTest, MemoryIsCutWithAWarningThatSaysWhy) {
  request.flags["memory"] = "64G";
  auto plan = resolve_plan(request);
  EXPECT_EQ(plan.memory.value, ByteSize::gibibytes(23)) << "1 GiB of what is available stays";
  EXPECT_EQ(plan.memory_asked, ByteSize::gibibytes(64));
  ASSERT_EQ(plan.warnings.size(), 1U);
  EXPECT_EQ(
      plan.warnings[0],
      "memory cut from 64G (--memory) to 23G: the host has 24G of 32G available and keeps 1G or a quarter for itself");
  request.host.memory_available = ByteSize::gibibytes(31);
  EXPECT_EQ(resolve_plan(request).memory.value, ByteSize::gibibytes(24)) << "a quarter of the total stays";
}

TEST_F(PlanTest, AHostWithoutMemoryIsAnErrorNotASmallGuest) {
  request.host.memory_available = ByteSize::mebibytes(1500);
  const auto error = error_of([&] { resolve_plan(request); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::host_lacks);
  EXPECT_EQ(error->hint(), "agentvm stop --all");
  request.flags["memory"] = "256M";
  EXPECT_EQ(resolve_plan(request).memory.value, ByteSize::mebibytes(256)) << "who asks for little and fits gets it";
  request.host.memory_available = ByteSize(0);
  EXPECT_EQ(error_of([&] { resolve_plan(request); })->code(), ErrorCode::host_lacks);
}

TEST_F(PlanTest, VcpusAreCutToTheHost) {
  request.host.cpus = 2;
  const auto plan = resolve_plan(request);
  EXPECT_EQ(plan.vcpus.value, 2U);
  EXPECT_EQ(plan.vcpus_asked, 4U);
  EXPECT_THAT(plan.warnings, testing::IsEmpty()) << "nobody asked for the default";
  request.flags["vcpus"] = "8";
  const auto asked = resolve_plan(request);
  EXPECT_EQ(asked.vcpus.value, 2U);
  EXPECT_THAT(asked.warnings, ElementsAre("vCPUs cut from 8 (--vcpus) to 2: that many CPUs may be used on this host"));
  request.flags.erase("vcpus");
  request.host.cpus = 0;
  EXPECT_EQ(resolve_plan(request).vcpus.value, 1U);
}

TEST_F(PlanTest, NamesAreDerivedMadeUniqueOrKept) {
  request.project.root = "/src/My Project!";
  EXPECT_EQ(resolve_plan(request).name.value.str(), "my-project");
  request.taken = [](const SandboxName& name) { return name.str() == "my-project"; };
  request.suffix = [] { return "beef"; };
  EXPECT_EQ(resolve_plan(request).name.value.str(), "my-project-beef");
  request.suffix = nullptr;
  EXPECT_THAT(resolve_plan(request).name.value.str(), testing::MatchesRegex("my-project-[0-9a-f]+"));
  request.existing = SandboxName::parse("older");
  EXPECT_EQ(resolve_plan(request).name.value.str(), "older") << "the project's sandbox is meant";
  request.flags["name"] = "second";
  EXPECT_EQ(resolve_plan(request).name.value.str(), "second") << "unless another is asked for";
  request.flags["name"] = "my-project";
  const auto error = error_of([&] { resolve_plan(request); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::usage);
  EXPECT_THAT(error->message(), HasSubstr("'my-project' belongs to the sandbox of another project (--name)"));
  request.flags.clear();
  request.existing.reset();
  request.taken = [](const SandboxName&) { return true; };
  EXPECT_EQ(error_of([&] { resolve_plan(request); })->code(), ErrorCode::operation_failed)
      << "ends even when everything is taken";
}

TEST_F(PlanTest, RecipesAreRelativeToWhoeverWroteThem) {
  request.flags["image"] = "recipes/big.yaml";
  EXPECT_EQ(resolve_plan(request).image.value.recipe, "/src/demo/sub/recipes/big.yaml");
  request.flags["image"] = "/abs/../big.yaml";
  EXPECT_EQ(resolve_plan(request).image.value.recipe, "/big.yaml");
  request.flags.clear();
  files["/home/u/config.yaml"] = "image: ./mine.yaml";
  const auto plan = resolve_plan(request);
  EXPECT_EQ(plan.image.value.recipe, "/home/u/mine.yaml");
  EXPECT_EQ(plan.to_json()["image"]["kind"], "recipe");
}

TEST_F(PlanTest, TheProjectFileCannotWidenOrRedirect) {
  files["/src/demo/agentvm.yaml"] =
      "memory: 2G\nnetwork: nat\nimage: ./evil.yaml\negress: {allow: [evil.example], ask: true}\n";
  const auto plan = resolve_plan(request);
  EXPECT_EQ(plan.memory.value, ByteSize::gibibytes(2));
  EXPECT_EQ(plan.network.value, NetworkMode::filtered);
  EXPECT_EQ(plan.image.value.str(), "default");
  EXPECT_THAT(plan.egress_allow.value, IsEmpty());
  EXPECT_FALSE(plan.egress_ask.value);
  EXPECT_EQ(plan.warnings.size(), 4U);
  files["/src/demo/agentvm.yaml"] = "libvirt: {uri: 'qemu:///system'}";
  EXPECT_EQ(error_of([&] { resolve_plan(request); })->code(), ErrorCode::decision_needed);
}

TEST_F(PlanTest, WhetherToAskIsTheUsersToSay) {
  files["/home/u/config.yaml"] = "egress: {ask: true}\n";
  const auto plan = resolve_plan(request);
  EXPECT_TRUE(plan.egress_ask.value);
  EXPECT_EQ(plan.to_json()["egress_ask"]["value"], true);
}

TEST_F(PlanTest, SecretsAreOfTheProjectsThatTheyAreMeantFor) {
  files["/home/u/config.yaml"] =
      "egress: {secrets: {A: {hosts: a.example, from: 'env:A'},"
      " B: {hosts: b.example, from: 'env:B', projects: [/src/demo/]},"
      " C: {hosts: c.example, from: 'env:C', projects: [/other, /src]},"
      " D: {hosts: d.example, from: 'env:D', projects: [/src/dem, /src/demo/sub]}}}\n";
  const auto plan = resolve_plan(request);
  std::vector<std::string> names;
  for (const auto& rule : plan.egress_secrets.value) names.push_back(rule.name);
  EXPECT_THAT(names, testing::ElementsAre("A", "B", "C"));
  EXPECT_EQ(plan.to_json()["egress_secrets"]["value"][0]["hosts"], Json::array({"a.example"}));
}

TEST_F(PlanTest, SaysWhatANetworkExposes) {
  EXPECT_THAT(resolve_plan(request).warnings, IsEmpty());
  EXPECT_THAT(std::string(resolve_plan(request).to_json()["network"]["exposes"]), HasSubstr("through a proxy"));
  request.flags["network"] = "nat";
  const auto plan = resolve_plan(request);
  ASSERT_EQ(plan.warnings.size(), 1U);
  EXPECT_THAT(plan.warnings[0], HasSubstr("this host's loopback as 10.0.2.2"));
  request.flags["network"] = "none";
  EXPECT_EQ(resolve_plan(request).to_json()["network"]["exposes"], "nothing");
}

TEST_F(PlanTest, DetachedHeadHasNoBranch) {
  request.head_branch.reset();
  const auto plan = resolve_plan(request);
  EXPECT_FALSE(plan.branch.value);
  EXPECT_EQ(plan.to_json()["branch"]["value"], Json());
  request.flags["branch"] = "feature/x";
  EXPECT_EQ(resolve_plan(request).branch.value, "feature/x");
}

TEST_F(PlanTest, JsonHasAnOriginForEveryKey) {
  files["/home/u/config.yaml"] = "workspace: {mode: disk}";
  request.environment["AGENTVM_ACCEL"] = "tcg";
  const auto json = resolve_plan(request).to_json();
  EXPECT_EQ(json["schema"], "agentvm.plan/1");
  for (const auto& key : config_keys()) {
    // Of the process, not of the sandbox.
    if (key.name == "log.levels" || key.name == "limits.disk_reserve" || key.name.starts_with("proxy.")) continue;
    if (key.name.starts_with("sync.gate.") || key.name.starts_with("artifacts.")) continue;  // read anew each time
    if (key.name == "sync.idle_seconds" || key.name == "wip.interval_seconds" || key.name == "notify")
      continue;  // the same
    std::string name(key.name);
    std::replace(name.begin(), name.end(), '.', '_');
    ASSERT_TRUE(json.contains(name)) << name;
    EXPECT_TRUE(json[name].contains("value")) << name;
    EXPECT_TRUE(json[name]["origin"].contains("layer")) << name;
  }
  EXPECT_EQ(json["workspace_mode"]["value"], "disk");
  EXPECT_EQ(json["workspace_mode"]["origin"]["file"], "/home/u/config.yaml");
  EXPECT_EQ(json["accelerator"]["origin"]["source"], "AGENTVM_ACCEL");
  EXPECT_EQ(json["memory"]["value"], 8ULL << 30);
}

}  // namespace
}  // namespace agentvm
