#include <set>

#include <gmock/gmock.h>

#include "vmm/config.hpp"

namespace agentvm {
namespace {

using testing::HasSubstr;

TEST(ConfigKeys, NamesFlagsAndVariablesAreUnique) {
  std::set<std::string_view> names, flags, variables;
  for (const auto& key : config_keys()) {
    EXPECT_TRUE(names.insert(key.name).second) << key.name;
    EXPECT_TRUE(key.flag.empty() || flags.insert(key.flag).second) << key.flag;
    EXPECT_TRUE(key.variable.empty() || variables.insert(key.variable).second) << key.variable;
    EXPECT_TRUE(key.flag.empty() || key.flag.starts_with("--")) << key.flag;
    EXPECT_TRUE(key.variable.empty() || key.variable.starts_with("AGENTVM_")) << key.variable;
    EXPECT_FALSE(key.help.empty() || key.help.ends_with('.')) << key.name;
    EXPECT_EQ(find_config_key(key.name), &key);
  }
  EXPECT_EQ(find_config_key("nothing"), nullptr);
}

TEST(ConfigKeys, NearestFindsTyposAndRefusesNoise) {
  EXPECT_EQ(nearest_config_key("memmory")->name, "memory");
  EXPECT_EQ(nearest_config_key("vcpu")->name, "vcpus");
  EXPECT_EQ(nearest_config_key("workspace_mode")->name, "workspace.mode");
  EXPECT_TRUE(nearest_config_key("allow")->name.ends_with(".allow"));
  EXPECT_EQ(nearest_config_key("qqqqqqqqqqqqqqqq"), nullptr);
  EXPECT_EQ(nearest_config_key(std::string(100'000, 'm')), nullptr);
}

TEST(ConfigRendering, ShowHoldsEveryKeyWithValueOriginAndClass) {
  const auto json = config_json(
      resolve_config({.flags = {{"memory", "1G"}}, .project = ConfigFile{"/p/agentvm.yaml", "network: nat"}}));
  EXPECT_EQ(json["schema"], "agentvm.config/1");
  ASSERT_EQ(json["keys"].size(), config_keys().size());
  const auto row = [&](std::string_view name) {
    for (const auto& entry : json["keys"])
      if (entry["name"] == name) return entry;
    return Json();
  };
  EXPECT_EQ(row("memory")["value"], 1u << 30);
  EXPECT_EQ(row("memory")["origin"], (Json{{"layer", "flag"}, {"source", "--memory"}}));
  EXPECT_EQ(row("network")["value"], "filtered");
  EXPECT_EQ(row("network")["class"], "widening");
  EXPECT_EQ(row("name")["value"], Json());
  EXPECT_EQ(row("libvirt.uri")["flag"], Json());
  EXPECT_EQ(json["warnings"].size(), 1U);
}

TEST(ConfigRendering, FileOriginsCarryLineAndColumn) {
  const auto json = config_json(resolve_config({.user = ConfigFile{"/u/config.yaml", "\nvcpus: 2"}}));
  EXPECT_EQ(json["keys"][2]["origin"],
            (Json{{"layer", "user"}, {"file", "/u/config.yaml"}, {"line", 2}, {"column", 8}}));
}

TEST(ConfigRendering, ValuesAsPeopleWriteThem) {
  EXPECT_EQ(config_value_text(*find_config_key("memory"), 8ULL << 30), "8G");
  EXPECT_EQ(config_value_text(*find_config_key("nested"), false), "false");
  EXPECT_EQ(config_value_text(*find_config_key("egress.allow"), Json::array({"a.example", "b.example"})),
            "a.example, b.example");
  EXPECT_EQ(config_value_text(*find_config_key("egress.allow"), Json::array()), "-");
  EXPECT_EQ(config_value_text(*find_config_key("name"), Json()), "-");
}

TEST(ConfigRendering, SchemaAndReferenceNameEveryKey) {
  const auto schema = config_schema();
  const auto text = configuration_reference_markdown();
  for (const auto& key : config_keys()) {
    const auto* place = &schema["properties"];
    EXPECT_TRUE(place->contains(std::string(key.name))) << key.name;
    std::string_view rest = key.name;
    for (auto dot = rest.find('.'); dot != rest.npos; dot = rest.find('.')) {
      ASSERT_TRUE(place->contains(std::string(rest.substr(0, dot)))) << key.name;
      const auto& section = (*place)[std::string(rest.substr(0, dot))];
      EXPECT_EQ(section["additionalProperties"], false) << key.name;
      place = &section["properties"];
      rest.remove_prefix(dot + 1);
    }
    EXPECT_TRUE(place->contains(std::string(rest))) << key.name;
    EXPECT_THAT(text, HasSubstr("| `" + std::string(key.name) + "` |"));
    EXPECT_THAT(text, HasSubstr(std::string(key.help)));
  }
  EXPECT_EQ(schema["properties"]["workspace"]["properties"]["mode"]["enum"], Json::array({"virtiofs", "disk"}));
  EXPECT_EQ(schema["additionalProperties"], false);
  EXPECT_THAT(text, HasSubstr("| `nested` | boolean | `true` | `--nested`, `--no-nested` |"));
}

}  // namespace
}  // namespace agentvm
