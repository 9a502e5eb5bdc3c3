#include "proxy/egress/journal.hpp"

#include <fstream>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "proxy/egress/summary.hpp"
#include "tests/support/temporary_folder.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::egress {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Event = JournalEntry::Event;
using Kind = Decision::Kind;

JournalEntry entry(const std::string& host, Kind kind, Event event = Event::whole, std::uint16_t port = 443) {
  Decision decision;
  decision.time = 1'700'000'000;
  decision.sandbox = "box";
  decision.host = host;
  decision.port = port;
  decision.protocol = Decision::Protocol::connect;
  decision.kind = kind;
  decision.cause = kind == Kind::denied ? Cause::not_listed : Cause::allowed;
  decision.rule = kind == Kind::allowed ? host + " (egress.allow)" : "";
  decision.reason = kind == Kind::denied ? host + " is not allowed" : "";
  return {event, decision};
}

TEST(JournalLines, AreReadAsTheyAreWritten) {
  auto one = entry("a.test", Kind::denied);
  one.decision.bytes_up = 5'000'000'000;
  one.decision.bytes_down = 7;
  const auto json = to_json(one);
  EXPECT_EQ(json["time"], "2023-11-14T22:13:20Z");
  EXPECT_EQ(json["verdict"], "denied");
  EXPECT_EQ(json["cause"], "not-listed");
  EXPECT_EQ(json["protocol"], "connect");
  const auto again = journal_entry(json.dump());
  ASSERT_TRUE(again);
  EXPECT_EQ(to_json(*again), json);
  for (const auto kind : {Kind::allowed, Kind::failed, Kind::malformed})
    for (const auto event : {Event::open, Event::end, Event::whole})
      EXPECT_EQ(to_json(*journal_entry(to_json(entry("a.test", kind, event)).dump())),
                to_json(entry("a.test", kind, event)));
}

TEST(JournalLines, AQuestionIsAnEntryAndItsEndTheOneThatCounts) {
  const auto asked = entry("a.test", Kind::asked, Event::held), end = entry("a.test", Kind::denied);
  EXPECT_EQ(to_json(asked)["verdict"], "asked");
  EXPECT_EQ(to_json(asked)["event"], "held");
  EXPECT_EQ(to_json(*journal_entry(to_json(asked).dump())), to_json(asked));
  JournalCounts counts;
  counts.add(asked);
  EXPECT_EQ(counts, JournalCounts());
  const auto rows = summarise({asked, end});
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].last.kind, Kind::denied);
  EXPECT_EQ(rows[0].count, 1U);
}

TEST(JournalLines, WhatIsNoEntryIsPassedOver) {
  const auto line = to_json(entry("a.test", Kind::allowed)).dump();
  for (const std::string& bad : {std::string(), std::string("{"), line.substr(0, line.size() - 1), std::string("{}"),
                                 std::string("[1]"), "{\"event\":\"open\"," + std::string(9000, ' ') + "}"})
    EXPECT_FALSE(journal_entry(bad)) << bad;
  auto json = to_json(entry("a.test", Kind::allowed));
  json["verdict"] = "perhaps";
  EXPECT_FALSE(journal_entry(json.dump()));
}

TEST(JournalLines, GuestTextInThemIsCleaned) {
  const auto line = to_json(entry("\x1b]0;x\x07.test", Kind::malformed)).dump();
  EXPECT_THAT(line, testing::Not(HasSubstr("\x1b")));
  EXPECT_THAT(line, testing::Not(HasSubstr("\\u001b")));
}

class JournalTest : public testing::Test {
 protected:
  std::vector<std::string> hosts() {
    std::vector<std::string> result;
    for (const auto& one : read_journal(file)) result.push_back(one.decision.host);
    return result;
  }
  const test::TemporaryFolder folder;
  const std::filesystem::path file = folder / "egress.jsonl";
};

TEST_F(JournalTest, KeepsWhatItIsToldAndCounts) {
  Journal journal;
  journal.write(entry("lost.test", Kind::allowed));  // nobody said where to
  EXPECT_FALSE(journal.counts("box"));
  journal.add("box", file);
  journal.write(entry("a.test", Kind::allowed, Event::open));
  journal.write(entry("a.test", Kind::allowed, Event::end));
  journal.write(entry("b.test", Kind::denied));
  journal.write(entry("c.test", Kind::failed));
  journal.write(entry("d.test", Kind::malformed));
  journal.flush();
  EXPECT_THAT(hosts(), ElementsAre("a.test", "a.test", "b.test", "c.test", "d.test"));
  EXPECT_EQ(*journal.counts("box"), (JournalCounts{1, 1, 2}));
  struct stat status {};
  ASSERT_EQ(::stat(file.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST_F(JournalTest, CountsGoOnWithWhatIsThere) {
  {
    Journal journal;
    journal.add("box", file);
    journal.write(entry("a.test", Kind::denied));
  }
  std::ofstream(file, std::ios::app) << "{\"half a li";  // a crash
  Journal journal;
  journal.add("box", file);
  EXPECT_EQ(journal.counts("box")->denied, 1u);
}

TEST_F(JournalTest, StaysSmallByRotation) {
  constexpr std::size_t limit = 20'000;
  Journal journal({.file_bytes = limit});
  journal.add("box", file);
  for (int i = 0; i < 1000; ++i) {
    journal.write(entry("host" + std::to_string(i) + ".test", Kind::denied));
    if (i % 10 == 0) journal.flush();
  }
  journal.flush();
  EXPECT_LE(fs::file_size(file), limit);
  EXPECT_LE(fs::file_size(file.string() + ".1"), limit);
  EXPECT_EQ(hosts().back(), "host999.test");
  EXPECT_GT(hosts().size(), 30u);
  EXPECT_EQ(journal.counts("box")->denied, 1000u);
}

TEST_F(JournalTest, AFloodIsCutAndNothingWaitsForIt) {
  // A pipe that nobody reads: opening it for writing blocks for ever, as a dead disk would.
  Journal journal({.queued = 100});
  journal.add("box", file);
  ASSERT_EQ(::mkfifo(file.c_str(), 0600), 0);
  for (int i = 0; i < 100'000; ++i) journal.write(entry("a.test", Kind::denied));  // else this has no end
  EXPECT_EQ(journal.counts("box")->denied, 100'000u);
  // Lets the writer go; what it still has is at most one batch and the queue.
  const UniqueFd reader(::open(file.c_str(), O_RDONLY | O_NONBLOCK));
  journal.remove("box");
}

TEST_F(JournalTest, NothingIsWrittenAfterRemove) {
  Journal journal;
  journal.add("box", file);
  for (int i = 0; i < 100; ++i) journal.write(entry("a.test", Kind::denied));
  journal.remove("box");
  fs::remove(file);
  journal.write(entry("a.test", Kind::denied));
  journal.flush();
  EXPECT_FALSE(fs::exists(file));
}

TEST_F(JournalTest, ALinkInItsPlaceIsNotFollowed) {
  fs::create_symlink(folder / "victim", file);
  Journal journal;
  journal.add("box", file);
  journal.write(entry("a.test", Kind::denied));
  journal.flush();
  EXPECT_FALSE(fs::exists(folder / "victim"));
}

TEST(Summary, OneRowForConnectionsThatEndedAlike) {
  auto end = entry("a.test", Kind::allowed, Event::end);
  end.decision.bytes_up = 10;
  end.decision.bytes_down = 20;
  auto later = entry("b.test", Kind::denied);
  later.decision.time += 60;
  const auto rows =
      summarise({later, entry("a.test", Kind::allowed, Event::open), entry("a.test", Kind::allowed, Event::open), end,
                 end, entry("a.test", Kind::allowed, Event::open, 8443), later});
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows.back().last.host, "b.test");  // the newest last
  EXPECT_EQ(rows.back().count, 2u);
  EXPECT_EQ(rows[0].last.port, 443);
  EXPECT_EQ(rows[0].count, 2u);
  EXPECT_EQ(rows[0].last.bytes_up, 20u);
  EXPECT_EQ(rows[0].last.bytes_down, 40u);
}

TEST(Suggest, ListsWhatWasNeededAndNothingElse) {
  const EgressPolicy given({HostRule::parse("preset.test", "preset x")},
                           {HostRule::parse("tracker.test", "egress.deny")});
  auto other_name = entry("cdn.test", Kind::denied);
  other_name.decision.cause = Cause::other_name;
  auto bad_name = entry("127.0.0.1", Kind::denied);
  std::vector<std::string> found;
  for (const auto& [rule, allowed, denied] :
       suggest({entry("preset.test", Kind::allowed), entry("wanted.test", Kind::denied),
                entry("wanted.test", Kind::denied, Event::whole, 80),
                entry("wanted.test", Kind::denied, Event::whole, 8443), entry("used.test", Kind::allowed),
                entry("tracker.test", Kind::denied), other_name, bad_name, entry("", Kind::malformed, Event::whole, 0),
                entry("10.0.0.1", Kind::allowed)},
               given))
    found.push_back(rule + " " + std::to_string(allowed) + " " + std::to_string(denied));
  EXPECT_THAT(found, ElementsAre("used.test 1 0", "wanted.test 0 2", "wanted.test:8443 0 1"));
}

}  // namespace
}  // namespace agentvm::egress
