#include "vmm/store.hpp"

#include <thread>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "tests/support/records.hpp"
#include "tests/support/temporary_folder.hpp"

namespace agentvm {
namespace {

using test::error_of;
using test::full_record;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

struct StoreTest : testing::Test {
  test::TemporaryFolder state;
  Store store{state.path()};
  SandboxName demo = SandboxName::parse("demo");

  std::vector<std::string> entries() {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(state / "sandboxes"))
      names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }
};

TEST_F(StoreTest, EmptyWithoutAFolderAndCreatesNone) {
  EXPECT_THAT(store.list().records, IsEmpty());
  EXPECT_FALSE(store.find(demo));
  EXPECT_FALSE(fs::exists(state / "sandboxes"));
}

TEST_F(StoreTest, CreateUpdateFindRemove) {
  const auto created = store.create(full_record("demo"));
  EXPECT_EQ(created.name, demo);
  EXPECT_EQ(store.find(demo)->id, created.id);
  struct stat status {};
  ASSERT_EQ(::stat(store.folder(demo).c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700U);
  ASSERT_EQ(::stat((store.folder(demo) / sandbox_files::record).c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
  const auto updated = store.update(demo, [](SandboxRecord& record) { record.ssh_port = 7; });
  EXPECT_EQ(updated.ssh_port, 7);
  EXPECT_EQ(store.get(demo).ssh_port, 7);
  EXPECT_THAT(entries(), ElementsAre("demo"));
  store.remove(demo);
  EXPECT_FALSE(store.find(demo));
  EXPECT_THAT(entries(), IsEmpty());
  EXPECT_NO_THROW(store.remove(demo)) << "gone already is success";
}

TEST_F(StoreTest, TakenNamesGetASuffix) {
  const auto first = store.create(full_record("demo")), second = store.create(full_record("demo"));
  EXPECT_EQ(first.name, demo);
  EXPECT_THAT(second.name.str(), testing::MatchesRegex("demo-[0-9a-f]+"));
  EXPECT_EQ(second.name.str().size(), std::string("demo-abcd").size());
  EXPECT_EQ(store.get(second.name).id, second.id);
  EXPECT_EQ(store.get(demo).id, first.id);
  fs::create_directory(state / "sandboxes/strange");  // even a folder that is not ours is not overwritten
  EXPECT_NE(store.create(full_record("strange")).name.str(), "strange");
}

TEST_F(StoreTest, AClosureThatThrowsChangesNothing) {
  store.create(full_record("demo"));
  const auto before = read_file(store.folder(demo) / sandbox_files::record);
  const auto error = error_of([&] {
    store.update(demo, [](SandboxRecord& record) {
      record.ssh_port = 9;
      apply_event(record, SandboxEvent::start, "user", "", 1);
    });
  });
  EXPECT_EQ(error->code(), ErrorCode::wrong_state);
  EXPECT_EQ(read_file(store.folder(demo) / sandbox_files::record), before);
  EXPECT_TRUE(error_of([&] { store.update(demo, [](SandboxRecord& record) { record.id = "other"; }); }));
  EXPECT_TRUE(
      error_of([&] { store.update(demo, [](SandboxRecord& record) { record.name = SandboxName::parse("other"); }); }));
  EXPECT_EQ(read_file(store.folder(demo) / sandbox_files::record), before);
  EXPECT_NO_THROW(store.update(demo, [](SandboxRecord&) {})) << "the lock is free again";
}

TEST_F(StoreTest, UpdatingWhatIsNotThereIsNotFound) {
  store.create(full_record("demo"));
  const auto error = error_of([&] { store.update(SandboxName::parse("dmeo"), [](SandboxRecord&) { FAIL(); }); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::not_found);
  EXPECT_EQ(error->message(), "no sandbox is named 'dmeo'; did you mean 'demo'?");
}

TEST_F(StoreTest, BrokenRecordsAreToldAndTheOthersListed) {
  store.create(full_record("alpha"));
  store.create(full_record("beta"));
  for (const auto* name : {"cut", "newer", "empty", "other", "huge"}) fs::create_directory(state / "sandboxes" / name);
  const auto good = dump_json(record_to_json(full_record("cut")));
  write_file_atomic(state / "sandboxes/cut/record.json", good.substr(0, good.size() / 2));
  auto newer = record_to_json(full_record("newer"));
  newer["schema"] = 99;
  write_file_atomic(state / "sandboxes/newer/record.json", dump_json(newer));
  write_file_atomic(state / "sandboxes/other/record.json", good);
  write_file_atomic(state / "sandboxes/huge/record.json", std::string(2u << 20, ' '));
  write_file_atomic(state / "sandboxes/Not A Name", "");
  const auto listing = store.list();
  ASSERT_EQ(listing.records.size(), 2U);
  EXPECT_EQ(listing.records[0].name.str(), "alpha");
  std::map<std::string, std::string> broken;
  for (const auto& [name, error] : listing.broken) broken[name] = error.message();
  EXPECT_EQ(broken.size(), 6U);
  EXPECT_THAT(broken["cut"], HasSubstr("not valid JSON"));
  EXPECT_THAT(broken["newer"], HasSubstr("newer agentvm"));
  EXPECT_THAT(broken["empty"], HasSubstr("no such file"));
  EXPECT_THAT(broken["other"], HasSubstr("names 'cut'"));
  EXPECT_THAT(broken["huge"], HasSubstr("larger than"));
  EXPECT_EQ(error_of([&] { store.get(SandboxName::parse("cut")); })->code(), ErrorCode::operation_failed);
  EXPECT_NO_THROW(store.remove(SandboxName::parse("cut"))) << "a broken sandbox can still be destroyed";
}

TEST_F(StoreTest, FoundByProject) {
  store.create(full_record("one", "/src/a"));
  store.create(full_record("two", "/src/b"));
  store.create(full_record("three", "/src/a"));
  const auto found = store.find_by_project("/src/a");
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0].name.str(), "one");
  EXPECT_EQ(found[1].name.str(), "three");
  EXPECT_THAT(store.find_by_project("/src"), IsEmpty());
}

TEST_F(StoreTest, ParallelUpdatesLoseNothing) {
  store.create(full_record("demo"));
  store.update(demo, [](SandboxRecord& record) { record.ssh_port = 0; });
  constexpr int threads = 4, rounds = 25;
  std::vector<std::thread> workers;
  for (int i = 0; i < threads; ++i)
    workers.emplace_back([&] {
      for (int round = 0; round < rounds; ++round) store.update(demo, [](SandboxRecord& record) { ++record.ssh_port; });
    });
  for (auto& worker : workers) worker.join();
  EXPECT_EQ(store.get(demo).ssh_port, threads * rounds);
}

TEST_F(StoreTest, ParallelCreationsAllGetTheirOwnName) {
  constexpr int threads = 8;
  std::vector<std::thread> workers;
  for (int i = 0; i < threads; ++i) workers.emplace_back([&] { store.create(full_record("demo")); });
  for (auto& worker : workers) worker.join();
  EXPECT_EQ(store.list().records.size(), static_cast<std::size_t>(threads));
  EXPECT_THAT(store.list().broken, IsEmpty());
}

TEST_F(StoreTest, AHeldLockEndsByTheDeadline) {
  store.create(full_record("demo"));
  const auto folder = open_file(store.folder(demo), O_RDONLY | O_DIRECTORY);
  ASSERT_EQ(::flock(folder.get(), LOCK_EX), 0);
  const auto error = error_of([&] {
    store.update(
        demo, [](SandboxRecord&) {}, Deadline::after(milliseconds(50)));
  });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::timed_out);
  EXPECT_EQ(error_of([&] { store.remove(demo, Deadline::after(milliseconds(50))); })->code(), ErrorCode::timed_out);
  EXPECT_TRUE(store.find(demo)) << "reading needs no lock";
}

// Somebody waits for the lock while the folder is removed and made anew: the change must reach the new record or
// nothing, never the old folder.
TEST_F(StoreTest, ALockOnARemovedFolderIsNotMistakenForTheNewOne) {
  const auto old = store.create(full_record("demo"));
  auto held = open_file(store.folder(demo), O_RDONLY | O_DIRECTORY);
  ASSERT_EQ(::flock(held.get(), LOCK_EX), 0);
  std::string seen;
  std::thread waiter([&] { store.update(demo, [&](SandboxRecord& record) { seen = record.id; }); });
  std::this_thread::sleep_for(milliseconds(50));
  fs::rename(store.folder(demo), state / "sandboxes/.gone-test");
  const auto fresh = store.create(full_record("demo"));
  held.reset();
  waiter.join();
  EXPECT_EQ(seen, fresh.id);
}

TEST_F(StoreTest, SweepTakesLeftoversAndNothingElse) {
  store.create(full_record("demo"));
  for (const auto* name : {".new-aa", ".gone-bb"}) {
    fs::create_directories(state / "sandboxes" / name / "keys");
    write_file_atomic(state / "sandboxes" / name / "keys/k", "secret");
  }
  write_file_atomic(state / "sandboxes/demo/.record.json.abc", "{");
  write_file_atomic(state / "sandboxes/demo/serial.log", "x");
  EXPECT_EQ(store.list().records.size(), 1U);
  EXPECT_THAT(store.list().broken, IsEmpty());
  store.sweep();
  EXPECT_THAT(entries(), ElementsAre("demo"));
  EXPECT_FALSE(fs::exists(state / "sandboxes/demo/.record.json.abc"));
  EXPECT_TRUE(fs::exists(state / "sandboxes/demo/serial.log"));
  EXPECT_TRUE(store.find(demo));
}

}  // namespace
}  // namespace agentvm
