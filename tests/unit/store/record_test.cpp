#include <set>

#include <gmock/gmock.h>

#include "tests/support/records.hpp"
#include "tests/support/temporary_folder.hpp"

namespace agentvm {
namespace {

using test::error_of;
using test::full_record;
using testing::HasSubstr;

TEST(Record, SurvivesTheFileWhole) {
  const auto record = full_record("demo");
  const auto text = dump_json(record_to_json(record));
  const auto back = record_from_json(parse_json(text, "record"));
  EXPECT_EQ(dump_json(record_to_json(back)), text);
  EXPECT_TRUE(back.unknown.empty());
  EXPECT_EQ(back.id, record.id);
  EXPECT_EQ(back.name, record.name);
  EXPECT_EQ(back.state, SandboxState::running);
  EXPECT_EQ(back.memory, record.memory);
  EXPECT_EQ(back.virtiofsd, record.virtiofsd);
  EXPECT_EQ(back.boot, record.boot);
  EXPECT_EQ(back.last_sync, record.last_sync);
  EXPECT_EQ(back.unsaved, record.unsaved);
  EXPECT_EQ(back.throw_away, record.throw_away);
  EXPECT_EQ(back.autostart, record.autostart);
  EXPECT_EQ(back.worktrees, record.worktrees);
  EXPECT_EQ(back.base_commits, record.base_commits);
  EXPECT_EQ(back.teardown, record.teardown);
  EXPECT_EQ(back.ssh_port, 40022);
}

TEST(Record, DefaultsSurviveToo) {
  const SandboxRecord record{.id = new_uuid(), .name = SandboxName::parse("demo"), .project = "/p"};
  const auto back = record_from_json(record_to_json(record));
  EXPECT_FALSE(back.virtiofsd);
  EXPECT_FALSE(back.boot);
  EXPECT_FALSE(back.last_sync);
  EXPECT_EQ(record_to_json(back), record_to_json(record));
}

TEST(Record, UnknownKeysAreKeptAtEveryLevel) {
  auto json = record_to_json(full_record("demo"));
  json["colour"] = "green";
  json["boot"]["kernel"] = {{"version", "6.1"}};
  json["later"] = Json::array({1, 2});
  auto record = record_from_json(json);
  record.ssh_port = 1;
  const auto written = record_to_json(record);
  EXPECT_EQ(written["colour"], "green");
  EXPECT_EQ(written["boot"]["kernel"]["version"], "6.1");
  EXPECT_EQ(written["later"], Json::array({1, 2}));
  EXPECT_EQ(written["ssh_port"], 1) << "what we know is ours to change";
  EXPECT_EQ(written["boot"]["boot_id"], "boot-id");
}

TEST(Record, RemovedBaseCommitsDoNotComeBackAsUnknown) {
  auto record = record_from_json(record_to_json(full_record("demo")));
  record.base_commits.erase("refs/heads/main");
  EXPECT_FALSE(record_to_json(record)["base_commits"].contains("refs/heads/main"));
}

TEST(Record, ANewerFormatIsRefusedByName) {
  auto json = record_to_json(full_record("demo"));
  json["schema"] = record_schema + 1;
  const auto error = error_of([&] { record_from_json(json); });
  ASSERT_TRUE(error);
  EXPECT_THAT(error->message(), HasSubstr("written by a newer agentvm"));
  json["schema"] = 0;
  EXPECT_TRUE(error_of([&] { record_from_json(json); }));
  json["schema"] = "1";
  EXPECT_THAT(error_of([&] { record_from_json(json); })->message(), HasSubstr("'schema' has the wrong type"));
}

TEST(Record, WrongTypesNameTheKey) {
  const auto good = record_to_json(full_record("demo"));
  for (const auto& [key, value] : good.items()) {
    auto json = good;
    json[key] = value.is_object() ? Json("text") : Json::object({{"unexpected", 1}});
    if (key == "base_commits") json[key] = Json::object({{"ref", 1}});
    const auto error = error_of([&] { record_from_json(json); });
    ASSERT_TRUE(error) << key;
    EXPECT_THAT(error->what(), testing::AnyOf(HasSubstr("'" + key + "'"), HasSubstr("'ref'"), HasSubstr("'pid'"),
                                              HasSubstr("'started_at'")))
        << key;
  }
}

TEST(Record, NumbersOutOfRangeAreNotWrapped) {
  auto json = record_to_json(full_record("demo"));
  json["ssh_port"] = 70000;
  EXPECT_TRUE(error_of([&] { record_from_json(json); }));
  json["ssh_port"] = -1;
  EXPECT_TRUE(error_of([&] { record_from_json(json); }));
  json["ssh_port"] = 22;
  json["memory"] = -5;
  EXPECT_TRUE(error_of([&] { record_from_json(json); }));
}

TEST(Record, EventsMoveTheStateOrChangeNothing) {
  auto record = full_record("demo");
  apply_event(record, SandboxEvent::stop, "user", "", 1'800'000'000);
  EXPECT_EQ(record.state, SandboxState::stopping);
  EXPECT_EQ(record.state_since, 1'800'000'000);
  apply_event(record, SandboxEvent::stop, "user", "again", 1'800'000'009);
  EXPECT_EQ(record.state_since, 1'800'000'000) << "the same state since then";
  const auto before = record_to_json(record);
  EXPECT_EQ(error_of([&] { apply_event(record, SandboxEvent::ready, "x", "y", 1); })->code(), ErrorCode::wrong_state);
  EXPECT_EQ(record_to_json(record), before);
}

TEST(Record, IdsAreRandomUuidsAndDomainsAreShort) {
  std::set<std::string> ids;
  for (int i = 0; i < 100; ++i) {
    const auto id = new_uuid();
    EXPECT_THAT(id, testing::MatchesRegex("[0-9a-f]+-[0-9a-f]+-4[0-9a-f]+-[89ab][0-9a-f]+-[0-9a-f]+"));
    EXPECT_EQ(id.size(), 36U);
    EXPECT_TRUE(ids.insert(id).second);
  }
  EXPECT_EQ(domain_name("12345678-aaaa-4bbb-8ccc-ddddddddddds"), "avm-12345678");
}

Plan plan_with(std::map<std::string, std::string> flags) {
  PlanRequest request{.project = {"/src/demo", "", "/src/demo/.git"},
                      .cwd = "/src/demo",
                      .flags = std::move(flags),
                      .host = {ByteSize::gibibytes(32), ByteSize::gibibytes(24), 8, "boot"},
                      .head_branch = "main"};
  request.read_config = [](const auto&) { return std::nullopt; };
  return resolve_plan(request);
}

TEST(Record, TakesThePlanOver) {
  const auto record = record_from_plan(plan_with({{"memory", "2G"}, {"network", "none"}}), 1'700'000'000);
  EXPECT_EQ(record.state, SandboxState::defined);
  EXPECT_EQ(record.name.str(), "demo");
  EXPECT_EQ(record.project, "/src/demo");
  EXPECT_EQ(record.branch, "main");
  EXPECT_EQ(record.memory, ByteSize::gibibytes(2));
  EXPECT_EQ(record.network, NetworkMode::none);
  EXPECT_EQ(record.domain, domain_name(record.id));
}

TEST(Record, ALaterPlanChangesWhatCanChangeAndTellsTheRest) {
  auto record = record_from_plan(plan_with({}), 1'700'000'000);
  const auto id = record.id;
  apply_plan(record, plan_with({{"memory", "2G"}, {"vcpus", "1"}, {"workspace.mode", "disk"}, {"image", "other"}}));
  EXPECT_EQ(record.id, id);
  EXPECT_EQ(record.memory, ByteSize::gibibytes(2));
  EXPECT_EQ(record.vcpus, 1U);
  EXPECT_EQ(record.workspace, WorkspaceMode::virtiofs);
  EXPECT_EQ(record.image, "default");
  ASSERT_EQ(record.warnings.size(), 2U);
  EXPECT_THAT(record.warnings[0], HasSubstr("workspace mode stays virtiofs"));
  EXPECT_THAT(record.warnings[1], HasSubstr("agentvm destroy demo"));
}

TEST(Record, KnowsWhetherVcpusWereAskedFor) {
  EXPECT_FALSE(record_from_plan(plan_with({}), 1).vcpus_asked);
  auto record = record_from_plan(plan_with({{"vcpus", "1"}}), 1);
  EXPECT_TRUE(record.vcpus_asked);
  apply_plan(record, plan_with({}));
  EXPECT_FALSE(record_from_json(record_to_json(record)).vcpus_asked);
}

TEST(Record, AFlagThatIsNotGivenAgainIsSaid) {
  auto record = record_from_plan(plan_with({{"agent", "claude"}, {"network", "none"}}), 1);
  apply_plan(record, plan_with({{"agent", "claude"}, {"network", "none"}}));
  EXPECT_THAT(record.warnings, testing::IsEmpty());
  apply_plan(record, plan_with({}));
  ASSERT_EQ(record.warnings.size(), 2U);
  EXPECT_THAT(record.warnings[0], HasSubstr("network is filtered now, it was none"));
  EXPECT_THAT(record.warnings[1], HasSubstr("no agent is started now, it was claude: '--agent claude'"));
  apply_plan(record, plan_with({{"agent", "codex"}}));
  EXPECT_THAT(record.warnings, testing::IsEmpty()) << "another one was asked for";
}

TEST(Record, ADiskKeepsItsLayers) {
  auto record = record_from_plan(plan_with({{"layers", "hypervisor,containers,hypervisor"}}), 1);
  EXPECT_THAT(record.image_layers, testing::ElementsAre("containers", "hypervisor"));
  EXPECT_EQ(record_from_json(record_to_json(record)).image_layers, record.image_layers);
  apply_plan(record, plan_with({{"layers", "containers"}}));
  EXPECT_EQ(record.image_layers.size(), 2U);
  ASSERT_EQ(record.warnings.size(), 1U);
  EXPECT_THAT(record.warnings[0], HasSubstr("set of layers stays containers, hypervisor"));
}

TEST(Record, AutoIsTheHypervisorThatTheFirstBootPinned) {
  auto record = record_from_plan(plan_with({}), 1);
  record.libvirt_uri = "qemu:///embed?root=/state/libvirt";
  apply_plan(record, plan_with({{"libvirt.uri", "auto"}}));
  EXPECT_THAT(record.warnings, testing::IsEmpty());
  apply_plan(record, plan_with({{"libvirt.uri", "qemu:///session"}}));
  ASSERT_EQ(record.warnings.size(), 1U);
  EXPECT_THAT(record.warnings[0], HasSubstr("libvirt uri stays qemu:///embed"));
}

}  // namespace
}  // namespace agentvm
