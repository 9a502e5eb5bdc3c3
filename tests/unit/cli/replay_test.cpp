// What of a guest's terminal output reaches a terminal, a log and a file of the host.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/replay/recording.hpp"
#include "cli/replay/terminal_filter.hpp"
#include "cli/replay/terminal_text.hpp"
#include "tests/support/temporary_folder.hpp"

namespace agentvm::cli {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;
using testing::HasSubstr;

std::string filtered(std::string_view bytes) {
  return TerminalFilter().feed(bytes);
}

std::string lines_of(std::string_view bytes) {
  TerminalText text;
  auto lines = text.feed(bytes);
  return lines + text.rest();
}

TEST(TerminalFilter, LetsTextColoursTheCursorAndErasingThrough) {
  for (const std::string_view same :
       {"plain text\r\n\tand \xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\b", "\x1b[1;31mred\x1b[0m\x1b[38;5;12m\x1b[m",
        "\x1b[4:3m", "\x1b[H\x1b[2J\x1b[12;40H\x1b[K\x1b[1K\x1b[3A\x1b[;5H", "\x1b[2L\x1b[M\x1b[4P\x1b[@\x1b[X",
        "\x1b[1;20r\x1b[2S\x1b[T\x1bM\x1b"
        "D\x1b"
        "E\x1b"
        "7\x1b"
        "8\x1b[s\x1b[u",
        "\x1b(0lqk\x1b(B", "\x1b[?25l\x1b[?25h\x1b[?7l"})
    EXPECT_EQ(filtered(same), same);
}

/// Each of them makes some terminal answer as if its user had typed, or sets what is the user's.
TEST(TerminalFilter, LeavesOutWhatATerminalAnswersOrKeeps) {
  const std::string_view attacks[] = {"\x1b[c",
                                      "\x1b[>c",
                                      "\x1b[=c",
                                      "\x1b[0c",
                                      "\x1bZ",
                                      "\x05",  // who are you
                                      "\x1b[6n",
                                      "\x1b[?6n",
                                      "\x1b[5n",
                                      "\x1b[>q",
                                      "\x1b[x",
                                      "\x1b[?1$p",  // reports
                                      "\x1b[18t",
                                      "\x1b[21t",
                                      "\x1b[8;1;1t",
                                      "\x1b[22;0t",  // the window, its title
                                      "\x1b]0;title\x07",
                                      "\x1b]2;title\x1b\\",
                                      "\x1b]52;c;cm0gLXJm\x07",
                                      "\x1b]52;c;?\x07",  // and the clipboard
                                      "\x1b]8;;file:///etc/passwd\x07",
                                      "\x1b]4;1;?\x07",
                                      "\x1b]10;?\x07",
                                      "\x1b]1337;File=:AAAA\x07",
                                      "\x1bP$qm\x1b\\",
                                      "\x1bP+q544e\x1b\\",
                                      "\x1b_Gi=1,a=q;AAAA\x1b\\",
                                      "\x1b^x\x1b\\",
                                      "\x1bXx\x1b\\",
                                      "\x1b[?1000h",
                                      "\x1b[?1006h",
                                      "\x1b[?1003h",
                                      "\x1b[?2004h",
                                      "\x1b[?1004h",
                                      "\x1b[?9001h",  // what keys send
                                      "\x1b[>1u",
                                      "\x1b[=1u",
                                      "\x1b[?u",
                                      "\x1b[>4;2m",
                                      "\x1b=",
                                      "\x1b>",
                                      "\x1b[4h",
                                      "\x1b[20h",
                                      "\x1b[?1h",
                                      "\x1b[5i",
                                      "\x1b[4i",
                                      "\x1b[?5i",  // printers
                                      "\x1b[3J",
                                      "\x1b[03J",
                                      "\x1b[!p",
                                      "\x1b[ q",  // what was scrolled by, resets, the cursor's shape
                                      "\x1b)0",
                                      "\x1b%@",
                                      "\x1b#8",
                                      "\x1bn",
                                      "\x1b|",
                                      "\x0e",
                                      "\x0f",
                                      "\x07",
                                      "\x7f",
                                      "\x1b[99999A",
                                      "\x1b[1;2;3H"};
  for (const auto attack : attacks) EXPECT_EQ(filtered(attack), "") << testing::PrintToString(std::string(attack));
}

TEST(TerminalFilter, SeesThroughOtherWaysToWriteAnEscape) {
  EXPECT_EQ(filtered("\xc2\x9b"
                     "6n\xc2\x9d"
                     "52;c;x"),
            "\xef\xbf\xbd"
            "6n\xef\xbf\xbd"
            "52;c;x")
      << "C1, as UTF-8";
  EXPECT_EQ(filtered("\x9b"
                     "6n"),
            "\xef\xbf\xbd"
            "6n")
      << "and as bytes";
  EXPECT_EQ(filtered("\x1b[6\x1b[6n"), "");
  EXPECT_EQ(filtered("\x1b[\n6n"), "\n");
  EXPECT_EQ(filtered("\x1b]0;a\x1b[6n\x1b\\b"), "b");
  EXPECT_EQ(filtered("\x1b\x1b]52;c;x\x07"), "");
  EXPECT_EQ(filtered("\x1b[?25;1000;1006h"), "\x1b[?25h") << "one of several is let through alone";
  EXPECT_EQ(filtered("\xe2\x80\xae"
                     "dne"),
            "\xef\xbf\xbd"
            "dne")
      << "text that runs backwards";
}

TEST(TerminalFilter, TheOtherScreenAndAResetAreAnEmptyScreen) {
  EXPECT_EQ(filtered("\x1b[?1049h"), "\x1b[H\x1b[2J");
  EXPECT_EQ(filtered("\x1b[?1049l"), "\x1b[H\x1b[2J");
  EXPECT_THAT(filtered("\x1b"
                       "c"),
              HasSubstr("\x1b[H\x1b[2J"));
}

TEST(TerminalFilter, AStringThatNobodyEndsDoesNotSwallowTheRest) {
  TerminalFilter filter;
  EXPECT_EQ(filter.feed("\x1b]0;"), "");
  EXPECT_EQ(filter.feed(std::string((64u << 10) - 2, 'x')), "");
  EXPECT_EQ(filter.feed("yz"), "z");
}

TEST(TerminalText, IsLinesWithoutColours) {
  EXPECT_EQ(lines_of("\x1b[32mone\x1b[0m  \r\n\r\ntwo"), "one\n\ntwo\n");
  EXPECT_EQ(lines_of("12%\r34%\r56%\r\n"), "12%\n34%\n56%\n") << "a line that is drawn over is there each time";
  EXPECT_EQ(lines_of("same\r\nsame\r\nother\r\n"), "same\nother\n");
  EXPECT_EQ(lines_of("lx\bs\n"), "ls\n");
  EXPECT_EQ(lines_of("\x1b[1;1Htop\x1b[5;1Hbelow\x1b[3Cright\x1b[2J"), "top\nbelow   right\n");
  EXPECT_EQ(lines_of("\x1b]0;title\x07"
                     "a\x1b[6n\x07\xc2\x9b"
                     "b\x85"),
            "a\xef\xbf\xbd"
            "b\xef\xbf\xbd\n");
}

TEST(TerminalText, ALineIsBounded) {
  const auto lines = lines_of(std::string(20'000, 'x'));
  EXPECT_LE(lines.find('\n'), 4097u);
  EXPECT_LE(lines_of(std::string(20'000, '\t') + std::string("\x1b[9999C")).size(), 5000u);
}

TEST(Recording, PassesOverWhatIsNoEventAndNeverGoesBack) {
  Recording recording;
  add_segment(
      recording, 1000,
      "{\"version\":2}\n[0,\"r\",\"100x30\"]\n[1.5,\"o\",\"a\"]\nnoise\n[1,\"o\",\"b\"]\n[2,\"i\",\"typed\"]\n"
      "[-1,\"o\",\"x\"]\n[1e99,\"o\",\"x\"]\n[3,\"o\",7]\n[3]\n[2,\"r\",\"99999x1\"]\n[4,\"o\",\"c\"]\n[5,\"o\",\"cut");
  add_segment(recording, 11'000, "[0.25,\"o\",\"d\"]\n[1,\"r\",\"80x24\"]\n");
  EXPECT_EQ(recording.begun_ms, 1000);
  EXPECT_EQ(recording.columns, 100u);
  std::string all;
  std::vector<double> times;
  for (const auto& event : recording.events) {
    all += event.data;
    times.push_back(event.at);
  }
  EXPECT_EQ(all, "abcd");
  EXPECT_THAT(times, ElementsAre(1.5, 1.5, 4, 10.25, 11));
  EXPECT_EQ(recording.events.back().columns, 80u);
}

TEST(Recording, WaitsAreCappedAndDivided) {
  Recording recording;
  for (const double at : {5.0, 6.0, 100.0}) recording.events.push_back({at, "x"});
  EXPECT_THAT(replay_waits(recording, 2, 4), ElementsAre(0, DoubleNear(0.5, 1e-9), DoubleNear(2, 1e-9)));
  EXPECT_THAT(replay_waits(recording, 1, 0), ElementsAre(0, DoubleNear(1, 1e-9), DoubleNear(94, 1e-9)));
}

TEST(Recording, AFileForOtherPlayersIsFilteredToo) {
  Recording recording;
  recording.begun_ms = 1'764'433'000'123;
  recording.events = {{0.5, "a\x1b]52;c;"},
                      {1,
                       "x\x07"
                       "b"},
                      {1.25, "\x1b[6n"},
                      {2, "", 90, 20}};
  EXPECT_EQ(dump_json(asciicast_events(recording)), R"([[0.5,"o","a"],[1.0,"o","b"],[2.0,"r","90x20"]])");
  EXPECT_EQ(asciicast_header(recording, "t"),
            R"({"version":2,"width":80,"height":24,"timestamp":1764433000,"title":"t"})");
}

TEST(Recording, ATailSeesWholeLinesOnce) {
  const test::TemporaryFolder folder;
  const auto add = [&](const char* name, std::string_view text) {
    const auto file = open_file(folder / name, O_WRONLY | O_CREAT | O_APPEND);
    write_all(file.get(), text, Deadline::never());
  };
  RecordingTail tail(folder.path());
  EXPECT_EQ(tail.read(), "");
  add("0000000000000100.cast", "{}\n[0,\"o\",\"one\"]\n[1,\"o\",\"tw");
  add("notes.txt", "[0,\"o\",\"no\"]\n");
  EXPECT_EQ(tail.read(), "one");
  add("0000000000000100.cast", "o\"]\n");
  add("0000000000000200.cast", "[0,\"o\",\"three\"]\n");
  EXPECT_EQ(tail.read(), "twothree");
  EXPECT_EQ(tail.read(), "");
}

}  // namespace
}  // namespace agentvm::cli
