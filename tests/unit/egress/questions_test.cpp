#include "proxy/egress/questions.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace agentvm::egress {
namespace {

using Kind = Questions::Place::Kind;
using std::chrono::seconds;

const SteadyTime begin{std::chrono::hours(1000)};

class QuestionsTest : public testing::Test {
 protected:
  Questions::Place hold(const std::string& rule, milliseconds at = {}) {
    return questions_.hold(rule, begin + at, 1'700'000'000 + at.count() / 1000);
  }
  std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const auto& question : questions_.open()) result.push_back(question.rule);
    return result;
  }
  Questions questions_{{.names = 2, .connections = 4, .notices_a_minute = 3, .time = seconds(25)}};
};

TEST_F(QuestionsTest, OnePerNameThatLaterOnesJoinUntilItsOwnTimeIsUp) {
  const auto first = hold("a.test");
  EXPECT_EQ(first.kind, Kind::asked);
  EXPECT_EQ(first.due, begin + seconds(25));
  const auto second = hold("a.test", seconds(20));
  EXPECT_EQ(second.kind, Kind::joined);
  EXPECT_EQ(second.due, first.due);
  EXPECT_EQ(hold("a.test", seconds(25)).kind, Kind::none);
  ASSERT_EQ(questions_.open().size(), 1U);
  EXPECT_EQ(questions_.open()[0].connections, 2U);
  EXPECT_EQ(questions_.open()[0].since, 1'700'000'000);
  questions_.leave("a.test");
  EXPECT_EQ(names(), std::vector<std::string>{"a.test"});
  questions_.leave("a.test");
  EXPECT_TRUE(names().empty());
  EXPECT_EQ(hold("a.test", seconds(26)).kind, Kind::asked);
}

TEST_F(QuestionsTest, NamesAndConnectionsAreCounted) {
  EXPECT_EQ(hold("b.test").kind, Kind::asked);
  EXPECT_EQ(hold("a.test", seconds(1)).kind, Kind::asked);
  EXPECT_EQ(hold("c.test", seconds(1)).kind, Kind::none);
  EXPECT_EQ(names(), (std::vector<std::string>{"b.test", "a.test"}));
  EXPECT_EQ(hold("a.test").kind, Kind::joined);
  EXPECT_EQ(hold("a.test").kind, Kind::joined);
  EXPECT_EQ(hold("a.test").kind, Kind::none);
  questions_.leave("b.test");
  EXPECT_EQ(hold("c.test", seconds(2)).kind, Kind::asked);
  questions_.leave("nobody.test");  // as after a restart of the sandbox
  EXPECT_EQ(hold("a.test").kind, Kind::none);
}

TEST_F(QuestionsTest, NoticesOfANameAndOfAllAreAMinuteApart) {
  const auto notice = [&](const std::string& rule, milliseconds at) {
    const auto place = hold(rule, at);
    EXPECT_EQ(place.kind, Kind::asked);
    questions_.leave(rule);
    return place.notice == Notice::due;
  };
  EXPECT_TRUE(notice("a.test", seconds(0)));
  for (int i = 1; i < 60; ++i) EXPECT_FALSE(notice("a.test", seconds(i)));
  EXPECT_TRUE(notice("a.test", seconds(60)));
  EXPECT_TRUE(notice("b.test", seconds(61)));
  EXPECT_TRUE(notice("c.test", seconds(62)));
  // A guest that makes up names is told of no oftener.
  for (int i = 0; i < 1000; ++i) EXPECT_FALSE(notice("x" + std::to_string(i) + ".test", seconds(63)));
  EXPECT_TRUE(notice("d.test", seconds(121)));
  EXPECT_FALSE(notice("c.test", seconds(121)));
}

}  // namespace
}  // namespace agentvm::egress
