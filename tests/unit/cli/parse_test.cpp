#include "cli/client/parse.hpp"

#include <gmock/gmock.h>

#include "tests/support/temporary_folder.hpp"

namespace agentvm::cli {
namespace {

using testing::HasSubstr;

std::optional<Error> refusal(const std::vector<std::string>& words) {
  return test::error_of([&] { parse_arguments(words); });
}

TEST(Parse, EveryCommandRefusesAnUnknownOptionByName) {
  for (const auto& command : command_table()) {
    std::vector<std::string> words;
    for (std::size_t start = 0; start <= command.name.size();) {
      const auto space = std::min(command.name.find(' ', start), command.name.size());
      words.push_back(command.name.substr(start, space - start));
      start = space + 1;
    }
    for (const auto* bad : {"--no-such-option", "-%", "--no-such-option=3"}) {
      auto with = words;
      with.push_back(bad);
      const auto error = refusal(with);
      ASSERT_TRUE(error) << command.name;
      EXPECT_EQ(exit_code(error->code()), 64);
      EXPECT_THAT(error->what(), HasSubstr(command.name));
      EXPECT_THAT(error->what(), HasSubstr(std::string(bad).substr(0, std::string(bad).find('='))));
      EXPECT_EQ(error->hint(), "agentvm help " + command.name);
    }
  }
}

TEST(Parse, EveryOptionWithAValueNeedsOneAndEverySwitchRefusesOne) {
  for (const auto& command : command_table())
    for (const auto& option : command.options) {
      if (option.greedy) continue;
      std::vector<std::string> words;
      for (std::size_t start = 0; start <= command.name.size();) {
        const auto space = std::min(command.name.find(' ', start), command.name.size());
        words.push_back(command.name.substr(start, space - start));
        start = space + 1;
      }
      words.push_back("--" + option.name + (option.value.empty() ? "=yes" : ""));
      const auto error = refusal(words);
      ASSERT_TRUE(error) << command.name << " " << option.name;
      EXPECT_EQ(error->code(), ErrorCode::usage);
      EXPECT_THAT(error->what(), HasSubstr("--" + option.name));
      if (option.choices.empty()) continue;
      words.back() = "--" + option.name + "=surely-wrong";
      EXPECT_THAT(refusal(words)->what(), HasSubstr("surely-wrong"));
      words.back() = "--" + option.name + "=" + option.choices.back();
      EXPECT_FALSE(refusal(words) && std::string(refusal(words)->what()).find("--" + option.name) != std::string::npos);
    }
}

TEST(Parse, AGreedyOptionTakesWordsUpToTheNextOption) {
  const auto arguments = parse_arguments({"sync", "one", "--artifacts", "dist", "a/*", "--json"});
  EXPECT_EQ(arguments.positionals, std::vector<std::string>{"one"});
  EXPECT_EQ(arguments.all("artifacts"), (std::vector<std::string>{"dist", "a/*"}));
  EXPECT_TRUE(arguments.enabled("json"));
  EXPECT_TRUE(parse_arguments({"sync", "--artifacts"}).given("artifacts"));
  EXPECT_EQ(parse_arguments({"sync", "--artifacts=x", "y"}).all("artifacts"), (std::vector<std::string>{"x", "y"}));
}

TEST(Parse, TakesOptionsInEverySpelling) {
  for (const auto& words : std::vector<std::vector<std::string>>{{"start", "--memory", "4G", "--no-nested", "src"},
                                                                 {"start", "src", "--memory=4G", "--no-nested"}}) {
    const auto parsed = parse_arguments(words);
    EXPECT_EQ(parsed.command->name, "start");
    EXPECT_EQ(parsed.text("memory"), "4G");
    EXPECT_TRUE(parsed.given("nested"));
    EXPECT_FALSE(parsed.enabled("nested", true));
    EXPECT_EQ(parsed.positional(0), "src");
  }
  const auto parsed = parse_arguments({"exec", "-te", "A=1", "-eB=2", "box", "--", "ls", "-l", "--", "--json"});
  EXPECT_TRUE(parsed.enabled("tty"));
  EXPECT_EQ(parsed.all("env"), (std::vector<std::string>{"A=1", "B=2"}));
  EXPECT_EQ(parsed.positional(0), "box");
  EXPECT_EQ(parsed.trailing, (std::vector<std::string>{"ls", "-l", "--", "--json"}));
  EXPECT_FALSE(parsed.given("json"));
}

TEST(Parse, KnowsAliasesFamiliesHelpAndVersion) {
  EXPECT_EQ(parse_arguments({"ls"}).command->name, "list");
  EXPECT_EQ(parse_arguments({"ps"}).command->name, "list");
  EXPECT_EQ(parse_arguments({"image", "list"}).command->name, "image list");
  EXPECT_EQ(parse_arguments({}).command->name, "help");
  EXPECT_EQ(parse_arguments({"--version"}).command->name, "version");
  for (const auto& words : std::vector<std::vector<std::string>>{
           {"exec", "--help"}, {"exec", "-h"}, {"help", "exec"}, {"--help", "exec"}, {"exec", "box", "--help"}}) {
    const auto parsed = parse_arguments(words);
    EXPECT_EQ(parsed.command->name, "help");
    EXPECT_EQ(parsed.positional(0), "exec");
  }
  EXPECT_EQ(parse_arguments({"image", "--help"}).positional(0), "image");
  EXPECT_EQ(parse_arguments({"exec", "--", "x", "--help"}).command->name, "exec");
}

TEST(Parse, SuggestsWhatWasMeant) {
  const std::pair<std::vector<std::string>, std::string> cases[] = {{{"strat"}, "'start'"},
                                                                    {{"stauts"}, "'status'"},
                                                                    {{"image", "bild"}, "'build'"},
                                                                    {{"start", "--memry", "1G"}, "'--memory'"},
                                                                    {{"start", "--network", "nta"}, "'nat'"},
                                                                    {{"exce", "--", "x"}, "'exec'"},
                                                                    {{"star", "--no-atach"}, "'start'"}};
  for (const auto& [words, meant] : cases)
    EXPECT_THAT(refusal(words)->what(), HasSubstr("did you mean " + meant)) << words[0];
  EXPECT_THAT(refusal({"frobnicate"})->what(), testing::Not(HasSubstr("did you mean")));
  EXPECT_THAT(refusal({"__complet"})->what(), testing::Not(HasSubstr("__complete"))) << "hidden commands stay hidden";
}

TEST(Parse, RefusesWhatDoesNotFit) {
  const std::pair<std::vector<std::string>, std::string> cases[] = {
      {{"list", "extra"}, "'extra'"},
      {{"exec", "box", "ls", "--", "x"}, "'ls'"},
      {{"exec", "ls"}, "agentvm exec -- ls"},
      {{"exec"}, "agentvm exec -- CMD"},
      {{"exec", "box", "--"}, "after --"},
      {{"list", "--", "x"}, "nothing after --"},
      {{"destroy"}, "needs NAME"},
      {{"destroy", ""}, "empty"},
      {{"completion", "tcsh"}, "'tcsh'"},
      {{"start", "--memory", "1G", "--memory", "2G"}, "twice"},
      {{"start", "--memory", "--fresh"}, "needs a value"},
      {{"start", "--memory="}, "needs a value"},
      {{"image"}, "needs one of: build, import, list"},
      {{"--json", "list"}, "stands before a command"},
  };
  for (const auto& [words, text] : cases) {
    const auto error = refusal(words);
    ASSERT_TRUE(error) << words[0];
    EXPECT_EQ(error->code(), ErrorCode::usage);
    EXPECT_THAT(error->what(), HasSubstr(text));
    EXPECT_NE(error->hint(), "");
  }
}

TEST(Parse, ForeignWordsCannotSteerTheTerminal) {
  for (const auto& words : std::vector<std::vector<std::string>>{{"\x1b[2J"},
                                                                 {"list", "\x1b[2J"},
                                                                 {"list", "--\x1b[2J"},
                                                                 {"list", "-\x1b"},
                                                                 {"start", "--network", "\x1b[2J"}})
    EXPECT_THAT(std::string(refusal(words)->what()), testing::Not(HasSubstr("\x1b"))) << words.back().size();
}

TEST(Table, IsConsistent) {
  std::set<std::string> names;
  for (const auto& command : command_table()) {
    EXPECT_TRUE(names.insert(command.name).second) << command.name;
    EXPECT_NE(command.run, nullptr) << command.name;
    EXPECT_FALSE(command.summary.empty() || command.summary.ends_with(".")) << command.name;
    std::set<std::string> options;
    std::set<char> letters;
    for (const auto& option : command.options) {
      EXPECT_TRUE(options.insert(option.name).second) << command.name << " " << option.name;
      EXPECT_TRUE(option.letter == 0 || letters.insert(option.letter).second) << command.name << " -" << option.letter;
      EXPECT_FALSE(option.help.empty() || option.help.ends_with(".")) << command.name << " " << option.name;
    }
  }
  // The contract's read commands answer --json.
  for (const auto* name : {"status", "list", "plan", "doctor", "sync", "image list", "image inspect", "manager status",
                           "config show", "exec", "start"})
    EXPECT_NE(find_command(name)->option("json"), nullptr) << name;
}

}  // namespace
}  // namespace agentvm::cli
