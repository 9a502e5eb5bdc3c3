#include <gmock/gmock.h>
#include <rapidcheck.h>

#include "tests/support/temporary_folder.hpp"
#include "vmm/base/json.hpp"
#include "vmm/base/yaml.hpp"

namespace agentvm {
namespace {

using test::error_of;
using testing::HasSubstr;
using testing::StartsWith;

std::string yaml_error(const std::string& text) {
  const auto error = error_of([&] { parse_yaml(text, "f.yaml"); });
  if (!error) return "no error";
  EXPECT_EQ(error->code(), ErrorCode::usage);
  return error->message();
}

TEST(Yaml, TreeRemembersPlacesAndQuotes) {
  const auto root = parse_yaml("a: 1\nb:\n  - x\n  - 'y'\nc: {d: ~}\n", "f.yaml");
  ASSERT_EQ(root.entries.size(), 3U);
  EXPECT_EQ(root.find("a")->scalar, "1");
  EXPECT_EQ(root.entries[1].key_mark.line, 2);
  EXPECT_EQ(root.find("b")->items[1].mark.line, 4);
  EXPECT_EQ(root.find("b")->items[1].mark.column, 5);
  EXPECT_TRUE(root.find("b")->items[1].quoted);
  EXPECT_FALSE(root.find("b")->items[0].quoted);
  EXPECT_EQ(root.find("c")->find("d")->kind, YamlNode::Kind::null);
  EXPECT_EQ(root.find("none"), nullptr);
  EXPECT_EQ(parse_yaml("", "f.yaml").kind, YamlNode::Kind::null);
  EXPECT_EQ(parse_yaml("# only a comment\n", "f.yaml").kind, YamlNode::Kind::null);
}

TEST(Yaml, WhatMakesTreesExplodeIsRefused) {
  EXPECT_EQ(yaml_error("a: &x 1\nb: *x\n"), "f.yaml:2:4: aliases are not supported");
  EXPECT_EQ(yaml_error("a: 1\nb: 2\na: 3\n"), "f.yaml:3:1: key 'a' is given twice");
  EXPECT_EQ(yaml_error("[a]: 1"), "f.yaml:1:1: a key must be plain text");
  EXPECT_THAT(yaml_error(std::string(100, '[')), HasSubstr("nested deeper than 32"));
  EXPECT_THAT(yaml_error(std::string(100'000, '[')), HasSubstr("nested deeper than 32"));
  std::string blocks;
  for (int i = 0; i < 100; ++i) blocks += std::string(static_cast<std::size_t>(i), ' ') + "a:\n";
  EXPECT_THAT(yaml_error(blocks), HasSubstr("nested deeper than 32"));
  EXPECT_THAT(yaml_error(std::string((1u << 20) + 1, ' ')), HasSubstr("larger than 1 MiB"));
  EXPECT_THAT(yaml_error("a: 1\n---\nb: 2\n"), HasSubstr("more than one document"));
  EXPECT_THAT(yaml_error("a: [1\nb: 2"), StartsWith("f.yaml:"));
  EXPECT_THAT(yaml_error("a: \"\\q\""), StartsWith("f.yaml:1:"));
}

TEST(Yaml, AnyBytesEndInATreeOrAUsageError) {
  EXPECT_TRUE(rc::check([] {
    const auto text =
        *rc::gen::container<std::string>(rc::gen::elementOf(std::string("ab:-[]{}#&*!|>'\"%@`,? \n\t~\x1b\xff")));
    if (const auto error = error_of([&] { parse_yaml(text, "f"); })) {
      RC_ASSERT(error->code() == ErrorCode::usage);
      RC_ASSERT(error->message().find('\x1b') == std::string::npos);
    }
  }));
}

TEST(JsonHelpers, DepthIsLimitedBeforeParsing) {
  EXPECT_NO_THROW(parse_json(std::string(64, '[') + std::string(64, ']'), "x"));
  EXPECT_THAT(error_of([] { parse_json(std::string(65, '[') + std::string(65, ']'), "x"); })->message(),
              HasSubstr("nested deeper"));
  EXPECT_THAT(error_of([] { parse_json(std::string(1'000'000, '['), "x"); })->message(), HasSubstr("nested deeper"));
  EXPECT_NO_THROW(parse_json("\"" + std::string(200, '[') + "\"", "x")) << "brackets in text are text";
  EXPECT_NO_THROW(parse_json("\"\\\"[[" + std::string(100, '[') + "\"", "x"));
}

TEST(JsonHelpers, ErrorsNameSubjectAndKey) {
  EXPECT_THAT(error_of([] { parse_json("{", "record"); })->message(), StartsWith("record: not valid JSON"));
  EXPECT_THAT(error_of([] { parse_json("{} {}", "record"); })->message(), StartsWith("record: not valid JSON"));
  const Json json{{"n", 5}, {"text", "x"}, {"none", nullptr}, {"half", 2.5}, {"large", 70000}, {"negative", -1}};
  EXPECT_EQ(require<int>(json, "n"), 5);
  EXPECT_EQ(value_or(json, "absent", 7), 7);
  EXPECT_EQ(value_or(json, "none", 7), 7);
  EXPECT_THAT(error_of([&] { require<int>(json, "absent"); })->message(), HasSubstr("'absent' is missing"));
  EXPECT_THAT(error_of([&] { require<int>(Json(3), "n"); })->message(), HasSubstr("'n' is missing"));
  for (const auto* key : {"text", "half", "large", "negative"})
    EXPECT_THAT(error_of([&] { require<std::uint16_t>(json, key); })->message(), HasSubstr(key));
  EXPECT_THAT(error_of([&] { value_or<std::string>(json, "n", ""); })->message(), HasSubstr("'n' has the wrong type"));
  EXPECT_EQ(error_of([&] { require<bool>(json, "n"); })->code(), ErrorCode::operation_failed);
}

TEST(JsonHelpers, DumpingNeverThrows) {
  EXPECT_EQ(dump_json(Json("\xff")), "\"\uFFFD\"");
  EXPECT_EQ(dump_json(Json{{"a", "x\ny"}}), "{\"a\":\"x\\ny\"}") << "one line";
}

}  // namespace
}  // namespace agentvm
