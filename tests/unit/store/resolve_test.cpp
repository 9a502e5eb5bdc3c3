#include <gmock/gmock.h>

#include "tests/support/records.hpp"
#include "tests/support/temporary_folder.hpp"
#include "vmm/base/process.hpp"
#include "vmm/store.hpp"

namespace agentvm {
namespace {

using test::error_of;
using test::full_record;
using testing::HasSubstr;

struct ResolveTest : testing::Test {
  test::TemporaryFolder state, source;
  Store store{state.path()};
  ResolveTest() {
    for (const auto* name : {"demo", "other"})
      run_checked({.argv = {"git", "init", "-q", (source / name).string()}}, Deadline::after(std::chrono::seconds(20)));
    fs::create_directories(source / "demo/sub");
    fs::create_directories(source / "plain");
  }
};

TEST_F(ResolveTest, TheOnlySandboxOfTheProjectIsMeant) {
  const auto demo = store.create(full_record("demo", source / "demo"));
  store.create(full_record("other", source / "other"));
  EXPECT_EQ(resolve_sandbox(store, std::nullopt, source / "demo/sub").id, demo.id);
  EXPECT_EQ(resolve_sandbox(store, SandboxName::parse("demo"), "/").id, demo.id) << "a name needs no project";
}

TEST_F(ResolveTest, NoneNamesTheCommandThatMakesOne) {
  const auto error = error_of([&] { resolve_sandbox(store, std::nullopt, source / "demo"); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::not_found);
  EXPECT_EQ(error->hint(), "agentvm start");
  EXPECT_THAT(error->message(), HasSubstr((source / "demo").string()));
}

TEST_F(ResolveTest, OutsideARepositoryIsNotFound) {
  const auto error = error_of([&] { resolve_sandbox(store, std::nullopt, source / "plain"); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::not_found);
  EXPECT_THAT(error->message(), HasSubstr("not a git repository"));
  EXPECT_EQ(error->hint(), "agentvm list");
}

TEST_F(ResolveTest, SeveralAreListed) {
  store.create(full_record("one", source / "demo"));
  store.create(full_record("two", source / "demo"));
  const auto error = error_of([&] { resolve_sandbox(store, std::nullopt, source / "demo"); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::usage);
  EXPECT_THAT(error->message(), HasSubstr("one, two"));
}

TEST_F(ResolveTest, ASandboxForOneCommandIsMeantOnlyWhereItIsAlone) {
  auto run = full_record("demo-run-1", source / "demo");
  run.throw_away = true;
  store.create(run);
  EXPECT_EQ(resolve_sandbox(store, std::nullopt, source / "demo").id, run.id);
  const auto kept = store.create(full_record("demo", source / "demo"));
  EXPECT_EQ(resolve_sandbox(store, std::nullopt, source / "demo").id, kept.id);
  EXPECT_EQ(resolve_sandbox(store, SandboxName::parse("demo-run-1"), "/").id, run.id);
}

TEST_F(ResolveTest, AnUnknownNameIsNotFound) {
  const auto error = error_of([&] { resolve_sandbox(store, SandboxName::parse("nobody"), source / "demo"); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::not_found);
  EXPECT_EQ(error->hint(), "agentvm list");
}

TEST_F(ResolveTest, ABrokenRecordOfTheProjectIsNotTakenForNone) {
  store.create(full_record("demo", source / "demo"));
  write_file_atomic(state / "sandboxes/demo/record.json", "{");
  const auto error = error_of([&] { resolve_sandbox(store, std::nullopt, source / "demo"); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::operation_failed);
  EXPECT_THAT(error->message(), HasSubstr("sandbox 'demo'"));
}

}  // namespace
}  // namespace agentvm
