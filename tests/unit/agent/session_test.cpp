// The host's state machine against guests that lie.
#include "guest/control/session.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/hostile_text.hpp"
#include "tests/support/temporary_folder.hpp"

namespace agentvm::guest {
namespace {

using test::error_of;
using testing::HasSubstr;

const std::string nonce = "0123456789abcdef";

std::string hello_answer(const std::string& with_nonce = nonce) {
  return encode({FrameType::response, 0, 1, dump_json({{"nonce", with_nonce}, {"protocol", 1}, {"ok", true}})});
}
std::string answer(std::uint32_t id, const std::string& text = "{\"ok\":true}") {
  return encode({FrameType::response, 0, id, text});
}

Session ready() {
  Session session(nonce);
  session.say_hello();
  session.sent(session.outgoing().size());
  session.receive(hello_answer());
  EXPECT_TRUE(session.hello_reply());
  return session;
}

TEST(Session, FindsTheAnswerToHelloBehindTheTailOfACutFrame) {
  const auto stale = encode({FrameType::output, 0, 9, std::string(5000, 'A')}).substr(100) +
                     encode({FrameType::event, 0, 0, "{}"}) + hello_answer("of another session");
  // The tail also holds a header that claims more than will ever come.
  const auto claim = encode({FrameType::response, 0, 1, std::string(4096, ' ')}).substr(0, frame_header_bytes);
  for (const auto& before :
       {std::string(), stale, stale + "AVM", stale + claim.substr(0, 12), std::string("AVM1AVM1AVM1")}) {
    Session session(nonce);
    for (const char byte : before + hello_answer() + answer(77)) session.receive(std::string_view(&byte, 1));
    EXPECT_TRUE(session.hello_reply()) << before.size();
    EXPECT_EQ(session.lost(), "");
  }
}

TEST(Session, AClaimThatNeverComesIsOutlivedByTheRepetitionOfHello) {
  Session session(nonce);
  session.receive(encode({FrameType::response, 0, 1, std::string(4096, ' ')}).substr(0, frame_header_bytes));
  for (int i = 0; i < 60 && !session.hello_reply(); ++i) session.receive(hello_answer());
  EXPECT_TRUE(session.hello_reply());
}

TEST(Session, GivesUpOnEndlessGarbageBeforeHello) {
  Session session(nonce);
  for (std::size_t sent = 0; sent <= discard_limit_bytes + 65536; sent += 65536)
    session.receive(std::string(65536, 'A'));
  EXPECT_THAT(session.lost(), HasSubstr("no answer to hello"));
}

TEST(Session, TakesNoRequestBeforeHello) {
  Session session(nonce);
  EXPECT_EQ(error_of([&] { session.request({{"op", "time"}}); })->code(), ErrorCode::wrong_state);
}

TEST(Session, EndsOnBytesThatAreNoFrame) {
  auto session = ready();
  session.receive("hello");
  EXPECT_THAT(session.lost(), HasSubstr("no frame"));
  EXPECT_TRUE(error_of([&] { session.request({{"op", "time"}}); }));
}

TEST(Session, CountsFramesThatMakeNoSense) {
  const std::vector<std::string> nonsense = {answer(99),
                                             encode({FrameType::output, 0, 99, "x"}),
                                             encode({FrameType::error_output, 0, 99, "x"}),
                                             encode({FrameType::request, 0, 1, "{}"}),
                                             encode({FrameType::input, 0, 1, "x"}),
                                             encode({FrameType::window, 0, 1, "xxxx"}),
                                             encode({FrameType::cancel, 0, 1, ""})};
  for (const auto& frame : nonsense) {
    auto session = ready();
    for (unsigned i = 1; i < violation_limit; ++i) session.receive(frame);
    EXPECT_EQ(session.lost(), "");
    session.receive(frame);
    EXPECT_THAT(session.lost(), HasSubstr("broke the protocol"));
  }
}

TEST(Session, AFloodOfEventsOrHelloAnswersEndsIt) {
  for (const auto& frame : {encode({FrameType::event, 0, 0, "{\"event\":\"x\"}"}), hello_answer()}) {
    auto session = ready();
    for (unsigned i = 0; i < event_limit; ++i) session.receive(frame);
    EXPECT_EQ(session.lost(), "");
    for (unsigned i = 0; i < violation_limit; ++i) session.receive(frame);
    EXPECT_NE(session.lost(), "");
    int kept = 0;
    while (session.take_event()) ++kept;
    EXPECT_LE(kept, 16);
  }
}

TEST(Session, ARestartedAgentNeedsANewSession) {
  auto session = ready();
  session.receive(encode({FrameType::event, 0, 0, "{\"event\":\"restarted\"}"}));
  EXPECT_THAT(session.lost(), HasSubstr("restarted"));
}

TEST(Session, KeepsOutputWithinItsLimitAndGrantsWindow) {
  auto session = ready();
  const auto id = session.request({{"op", "exec"}}, 1000);
  session.sent(session.outgoing().size());
  for (int i = 0; i < 100; ++i) {
    session.receive(encode({FrameType::output, 0, id, std::string(65536, 'o')}));
    session.receive(encode({FrameType::error_output, 0, id, "e"}));
  }
  session.receive(answer(id, "{\"exited\":0}"));
  EXPECT_EQ(session.lost(), "");
  EXPECT_THAT(session.outgoing(), HasSubstr("AVM1\x07"));
  const auto reply = session.take(id);
  EXPECT_EQ(reply.out, std::string(1000, 'o'));
  EXPECT_EQ(reply.err, std::string(100, 'e'));
  EXPECT_TRUE(reply.truncated);
}

TEST(Session, EndsWhenOutputOverrunsItsWindow) {
  auto session = ready();
  const auto id = session.request({{"op", "exec"}}, 10);
  // 100 KiB: the third would be within a granted window only; without taking `outgoing` the grants still count, so
  // overrun by one frame.
  session.receive(encode({FrameType::output, 0, id, std::string(120u << 10, 'x')}));
  EXPECT_EQ(session.lost(), "");
  session.receive(encode({FrameType::output, 0, id, std::string(200u << 10, 'x')}));
  EXPECT_THAT(session.lost(), HasSubstr("more output than it was allowed"));
}

TEST(Session, ASecondAnswerOrLateFramesOfAnAbandonedRequest) {
  auto session = ready();
  const auto id = session.request({{"op", "time"}});
  session.abandon(id);
  EXPECT_THAT(session.outgoing(), HasSubstr(std::string("AVM1\x08", 5)));
  for (unsigned i = 0; i < 3 * violation_limit; ++i) session.receive(encode({FrameType::output, 0, id, "late"}));
  session.receive(answer(id));
  EXPECT_EQ(session.lost(), "") << "what we forgot is no fault of the guest";
  EXPECT_EQ(session.look(id), nullptr);
}

TEST(Session, ErrorsOfTheGuestAreCleaned) {
  auto session = ready();
  const auto id = session.request({{"op", "time"}});
  session.receive(answer(id, R"({"error":{"code":"timed-out","message":"\u001b[2J bad"}})"));
  const auto reply = session.take(id);
  ASSERT_TRUE(reply.error);
  EXPECT_EQ(reply.error->code(), ErrorCode::timed_out);
  EXPECT_EQ(reply.error->message().find('\x1b'), std::string::npos);
}

/// What a guest may say at any time, and what `status` then shows of it.
TEST(Session, NothingThatAGuestSaysIsShownRaw) {
  for (const auto& text : test::hostile_texts()) {
    const auto quoted = Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
    for (const auto& event : {text, "{\"event\":\"goodbye\",\"reason\":" + quoted + "}", "{\"event\":" + quoted,
                              "{\"event\":\"" + text, "{" + quoted + ":1}"}) {
      auto session = ready();
      session.receive(encode({FrameType::event, 0, 0, event}));
      EXPECT_EQ(test::harm_in(session.lost()), "");
      EXPECT_LT(session.lost().size(), 8192u);
    }
    auto session = ready();
    const auto id = session.request({{"op", "time"}});
    session.receive(answer(id, "{\"error\":{\"code\":\"timed-out\",\"message\":" + quoted + "}}"));
    const auto reply = session.take(id);
    ASSERT_TRUE(reply.error);
    EXPECT_EQ(test::harm_in(reply.error->message()), "");
    auto broken = ready();
    broken.receive(text);
    EXPECT_EQ(test::harm_in(broken.lost()), "");
  }
}

TEST(Session, HostileAnswersBecomeErrors) {
  for (const auto* text : {"", "{", "[[[[", "{\"error\":3}", "{\"error\":{\"code\":[],\"message\":7}}", "\xFF\xFE"}) {
    auto session = ready();
    const auto id = session.request({{"op", "time"}});
    session.receive(answer(id, text));
    ASSERT_TRUE(session.look(id)->done) << text;
    EXPECT_TRUE(session.take(id).error) << text;
  }
}

TEST(Session, RefusesMoreWhenTheGuestDoesNotRead) {
  auto session = ready();
  const Json big = {{"op", "time"}, {"pad", std::string(200u << 10, 'x')}};
  const auto error = error_of([&] {
    for (int i = 0; i < 1000; ++i) session.abandon(session.request(big));
  });
  ASSERT_TRUE(error);
  EXPECT_LT(session.outgoing().size(), outgoing_limit_bytes + (1u << 20));
}

}  // namespace
}  // namespace agentvm::guest
