#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/render/render.hpp"

namespace agentvm::cli {
namespace {

using testing::HasSubstr;
using testing::Not;
const Style plain;

TEST(RenderEgress, LogHasARowForConnectionsThatEndedAlike) {
  const auto answer = Json::parse(R"~({"rows":[
    {"time":"2026-01-02T03:04:05Z","verdict":"allowed","host":"a.test","port":443,"count":3,"bytes_up":100,"bytes_down":2048,
     "rule":"a.test (egress.allow)","reason":""},
    {"time":"2026-01-02T03:04:06Z","verdict":"denied","host":"fd00::1","port":80,"count":1,"bytes_up":0,"bytes_down":0,"rule":"","reason":"no"}]
})~");
  EXPECT_EQ(render_egress_log(answer, plain, 0),
            "LAST                  VERDICT  HOST          COUNT  UP/DOWN  BECAUSE\n"
            "2026-01-02T03:04:05Z  allowed  a.test:443    3      100/2K   a.test (egress.allow)\n"
            "2026-01-02T03:04:06Z  denied   [fd00::1]:80  1      -        no\n");
  EXPECT_EQ(render_egress_log(Json::parse(R"~({"rows":[]})~"), plain, 0), "");
}

TEST(RenderEgress, EventsAreOneLineEach) {
  auto entry = Json::parse(
      R"~({"time":"T","event":"open","verdict":"allowed","host":"a.test","port":443,"rule":"r","reason":"","bytes_up":0,"bytes_down":0})~");
  EXPECT_EQ(render_egress_event(entry, plain), "T  allowed    a.test:443  r\n");
  entry["event"] = "end";
  entry["bytes_down"] = 7;
  EXPECT_EQ(render_egress_event(entry, plain), "T  closed     a.test:443  r  0/7\n");
  entry["verdict"] = "denied";
  entry["reason"] = "not allowed";
  EXPECT_THAT(render_egress_event(entry, plain), HasSubstr("denied     a.test:443  not allowed"));
}

TEST(RenderEgress, WhatWaitsIsShownWithTheCommandThatAnswers) {
  const auto entry = Json::parse(
      R"~({"time":"T","event":"held","verdict":"asked","host":"a.test","port":443,"rule":"","bytes_up":0,"bytes_down":0,
           "reason":"waits for you: agentvm egress allow box a.test"})~");
  EXPECT_EQ(render_egress_event(entry, plain),
            "T  asked      a.test:443  waits for you: agentvm egress allow box a.test\n");
  const auto waiting = R"~([{"rule":"a.test"},{"rule":"b.test:22"},{"rule":"\u001b[2J"},{"rule":"d.test"}])~";
  const auto status =
      Json::parse(fmt::format(R"~({{"name":"box","network":"filtered","egress":{{"waiting":{}}}}})~", waiting));
  EXPECT_THAT(render_status(status, plain, false),
              HasSubstr("filtered, waits for you: a.test, b.test:22 and 2 more (agentvm egress allow box HOST)"));
  const auto list = Json::parse(fmt::format(
      R"~({{"sandboxes":[{{"name":"box","state":"running","backend":"libvirt","uptime_seconds":9,"project":"/p","egress_waiting":{}}},
          {{"name":"other","state":"stopped","backend":"libvirt","uptime_seconds":0,"project":"/q","egress_waiting":[]}}]}})~",
      waiting));
  EXPECT_EQ(render_list(list, plain, 0),
            "SANDBOX  STATE    ASKS FOR                      BACKEND  UPTIME  PROJECT\n"
            "box      running  a.test, b.test:22 and 2 more  libvirt  9s      /p\n"
            "other    stopped  -                             libvirt  -       /q\n");
}

TEST(RenderEgress, CheckNamesTheRule) {
  EXPECT_EQ(
      render_egress_check(
          Json::parse(
              R"~({"allowed":true,"host":"a.test","port":443,"rule":"a.test (preset x)","reason":"","addresses":["192.0.2.1"]})~"),
          plain),
      "a.test:443 is allowed\n  by a.test (preset x)\n  resolves to 192.0.2.1\n");
  EXPECT_EQ(
      render_egress_check(
          Json::parse(R"~({"allowed":false,"host":"a.test","port":22,"rule":"","reason":"a.test:22 is not allowed"})~"),
          plain),
      "a.test:22 is denied\n  a.test:22 is not allowed\n");
}

TEST(RenderEgress, RulesStandByWhereTheyComeFrom) {
  const auto egress =
      Json::parse(R"~({"rules":[{"rule":"x.test","verdict":"deny","origin":"egress.deny","effective":true},
    {"rule":"a.test","verdict":"allow","origin":"preset x","effective":true},{"rule":"x.test","verdict":"allow","origin":"preset x","effective":false}]})~");
  EXPECT_EQ(render_egress_rules(egress, plain),
            "deny (egress.deny)\n  x.test\nallow (preset x)\n  a.test, x.test [denied]\n");
}

TEST(RenderEgress, StatusTellsWhatNatExposesAndHowMuchWasDenied) {
  EXPECT_THAT(
      render_status(Json::parse(R"~({"name":"box","network":"filtered","egress":{"denied":2}})~"), plain, false),
      HasSubstr("filtered, 2 connections denied (agentvm egress log --denied)"));
  EXPECT_THAT(
      render_status(Json::parse(R"~({"name":"box","network":"nat","egress":{"exposes":"everything","denied":null}})~"),
                    plain, false),
      HasSubstr("nat: the guest reaches everything\n"));
}

TEST(RenderEgress, GuestTextIsCleaned) {
  const Json evil{{"host", "\x1b]0;x\x07"}, {"reason", "\x1b[2J"}, {"rule", "\u202e"},
                  {"verdict", "denied"},    {"time", "\x9b"},      {"port", 1}};
  for (const auto& text : {render_egress_event(evil, plain), render_egress_check(evil, plain),
                           render_egress_log({{"rows", Json::array({evil})}}, plain, 0)}) {
    EXPECT_THAT(text, Not(HasSubstr("\x1b")));
    EXPECT_THAT(text, Not(HasSubstr("\u202e")));
  }
}

TEST(RenderEgress, SecretsAreShownByNameAndNeverByValue) {
  const auto plan = Json::parse(R"~({"egress":{"mode":"filtered","exposes":"names","secrets":[
    {"name":"KEY","hosts":["a.test","*.b.test:8443"],"env":"API_KEY","header":["Authorization","x-api-key"],"source":"command","requests":[]},
    {"name":"FEW","hosts":["c.test"],"env":"FEW","header":["Authorization"],"source":"file","requests":["GET,HEAD /a/*","POST /b"]}]}})~");
  EXPECT_THAT(
      render_plan(plan, plain, 80),
      HasSubstr("  TLS to a.test, *.b.test:8443 is ended here: KEY, from a command, takes the place of $API_KEY "
                "in Authorization, x-api-key\n"
                "  TLS to c.test is ended here: FEW, from a file, takes the place of $FEW in Authorization, for "
                "GET,HEAD /a/*, POST /b alone\n"));
  const auto status = Json::parse(R"~({"name":"box","egress":{"secrets":[
    {"name":"KEY","hosts":["a.test"],"state":"ok","problem":"","last_use":"2026-01-02T03:04:05Z"},
    {"name":"NEW","hosts":["b.test"],"state":"not-asked","problem":"","last_use":null},
    {"name":"BAD","hosts":["c.test"],"state":"failed","problem":"it is empty","last_use":"T"}]}})~");
  const auto text = render_status(status, plain, true);
  EXPECT_THAT(text, HasSubstr("KEY for a.test: ok, last used 2026-01-02T03:04:05Z\n"));
  EXPECT_THAT(text, HasSubstr("NEW for b.test: not asked for yet\n"));
  EXPECT_THAT(text, HasSubstr("BAD for c.test: failed, it is empty, last used T\n"));
}

TEST(RenderEgress, CapsDecoysAndWhatIsFrozen) {
  const auto plan = Json::parse(R"~({"egress":{"mode":"filtered","exposes":"names","caps":["a.test 3 requests/hour"],
    "decoys":[{"name":"aws","file":"~/.aws/credentials","hosts":["*.amazonaws.com"]}]}})~");
  const auto planned = render_plan(plan, plain, 80);
  EXPECT_THAT(planned, HasSubstr("  no more than a.test 3 requests/hour\n"));
  EXPECT_THAT(planned,
              HasSubstr("  a decoy is in ~/.aws/credentials: whoever sends it anywhere freezes the sandbox, and "
                        "TLS to *.amazonaws.com is ended here\n"));
  const auto status = Json::parse(R"~({"name":"box","state":"paused","frozen":"why","egress":{
    "caps":[{"cap":"a.test 3 requests/hour","used":3,"limit":3,"seconds":90},{"cap":"b.test 1G bytes/day","used":7,"limit":9,"seconds":0}],
    "decoys":[{"name":"aws","file":"~/.aws/credentials"}]}})~");
  const auto text = render_status(status, plain, false);
  EXPECT_THAT(text, HasSubstr("until you run: agentvm resume box\n"));
  EXPECT_THAT(text, HasSubstr("a.test 3 requests/hour: 3 taken, nothing more for 1m 30s\n"));
  EXPECT_THAT(text, HasSubstr("b.test 1G bytes/day: 7 taken\n"));
  EXPECT_THAT(text, HasSubstr("aws in ~/.aws/credentials\n"));
  const auto list = Json::parse(R"~({"sandboxes":[
    {"name":"a","state":"paused","frozen":"why"},{"name":"b","state":"stopped","frozen":"why"},{"name":"c","state":"paused","frozen":""}]})~");
  const auto rows = render_list(list, plain, 0);
  EXPECT_THAT(rows, HasSubstr("a        frozen  "));
  EXPECT_THAT(rows, HasSubstr("b        stopped, frozen  "));
  EXPECT_THAT(rows, HasSubstr("c        paused  "));
}

}  // namespace
}  // namespace agentvm::cli
