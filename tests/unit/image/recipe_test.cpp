#include "guest/image/recipe.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "guest/image/layers.hpp"
#include "vmm/base/error.hpp"
#include "vmm/config.hpp"

namespace agentvm {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

const std::string small =
    "name: small\n"
    "suite: bookworm\n"
    "kernel: linux-image-cloud-amd64\n"
    "packages: [sudo, git]\n";

std::string refusal(const std::string& text) {
  try {
    parse_recipe(text, "r.yaml");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::usage);
    return error.message();
  }
  ADD_FAILURE() << "accepted: " << text;
  return "";
}

TEST(Recipe, ReadsEveryKey) {
  const auto recipe = parse_recipe(small + "disk: 8G\nmask: [fstrim.timer, \"getty@tty1.service\"]\n", "r.yaml");
  EXPECT_EQ(recipe.name, "small");
  EXPECT_EQ(recipe.suite, "bookworm");
  EXPECT_EQ(recipe.kernel, "linux-image-cloud-amd64");
  EXPECT_EQ(recipe.disk, ByteSize::gibibytes(8));
  EXPECT_THAT(recipe.packages, ElementsAre("git", "sudo"));
  EXPECT_THAT(recipe.mask, ElementsAre("fstrim.timer", "getty@tty1.service"));
}

TEST(Recipe, DefaultHasTheToolsThatTheDocumentationPromises) {
  const auto& recipe = default_recipe();
  for (const auto* package : {"openssh-server", "git", "tmux", "direnv", "rsync", "curl", "ca-certificates", "ripgrep",
                              "less", "vim-tiny", "python3", "build-essential", "sudo", "apt", "systemd"})
    EXPECT_THAT(recipe.packages, Contains(package));
  EXPECT_THAT(recipe.mask, Not(Contains("ssh.service")));
  EXPECT_THAT(recipe.mask, Not(Contains("systemd-journald.service")));
}

TEST(Recipe, UnknownKeyNamesItsPlaceAndTheNearestKey) {
  EXPECT_EQ(refusal(small + "  \npakages: [vim]\n"), "r.yaml:6:1: unknown key 'pakages'; did you mean 'packages'?");
  EXPECT_THAT(refusal(small + "customize-hook: [touch /x]\n"), HasSubstr("unknown key 'customize-hook'"));
}

TEST(Recipe, RefusesWhatIsNoPackage) {
  for (const auto* text : {"--option", "-y", "a", "git;reboot", "git foo", "../x", "Git", "$(id)", "git,vim", "git=1",
                           "?essential", "~n.*"})
    EXPECT_THAT(
        refusal("name: xx\nsuite: bookworm\nkernel: linux-image-amd64\npackages:\n  - \"" + std::string(text) + "\"\n"),
        HasSubstr("r.yaml:5:5: '" + std::string(text) + "' is not a package name"))
        << text;
}

TEST(Recipe, RefusesUnitsThatLeaveTheirFolder) {
  for (const auto* unit : {"../ssh.service", "a/b.service", "x", ".service", "-x.service", "x.conf"})
    EXPECT_THAT(refusal(small + "mask: [\"" + unit + "\"]\n"), HasSubstr("is not a systemd unit")) << unit;
}

TEST(Recipe, RefusesSuitesThatAreOptionsOrPaths) {
  for (const auto* suite : {"-x", "a/b", "Bookworm", ""})
    EXPECT_THAT(refusal("name: xx\nsuite: \"" + std::string(suite) + "\"\nkernel: linux-image-amd64\npackages: []\n"),
                HasSubstr("is not a Debian suite"))
        << suite;
}

TEST(Recipe, MissingKeysAndWrongTypesAreNamed) {
  EXPECT_THAT(refusal("name: xx\nsuite: bookworm\nkernel: linux-image-amd64\n"),
              HasSubstr("key 'packages' is missing"));
  EXPECT_THAT(refusal("- a\n"), HasSubstr("r.yaml:1:1: a recipe is a mapping"));
  EXPECT_THAT(refusal(""), HasSubstr("a recipe is a mapping"));
  EXPECT_THAT(refusal("name: xx\nsuite: bookworm\nkernel: linux-image-amd64\npackages: git\n"),
              HasSubstr("r.yaml:4:11: expected a list"));
  EXPECT_THAT(refusal("name: [xx]\nsuite: bookworm\nkernel: linux-image-amd64\npackages: []\n"),
              HasSubstr("r.yaml:1:7: expected a name"));
}

TEST(Recipe, RefusesDoubledPackages) {
  EXPECT_THAT(refusal("name: xx\nsuite: bookworm\nkernel: linux-image-amd64\npackages: [git, git]\n"),
              HasSubstr("'git' is listed twice"));
}

TEST(Recipe, DiskHasBounds) {
  EXPECT_THAT(refusal(small + "disk: 1G\n"), HasSubstr("r.yaml:5:7: 1G is not between 4G and"));
  EXPECT_THAT(refusal(small + "disk: 2000G\n"), HasSubstr("is not between"));
  EXPECT_THAT(refusal(small + "disk: big\n"), AllOf(HasSubstr("r.yaml:5:7: "), HasSubstr("big")));
}

TEST(Recipe, LayersAddTheirPackagesOfTheSuite) {
  const auto recipe = parse_recipe(small + "layers: [hypervisor]\n", "r.yaml");
  EXPECT_EQ(recipe.name, "small") << "it is the recipe's own";
  EXPECT_THAT(recipe.packages, AllOf(Contains("git"), Contains("qemu-system-x86"), Not(Contains("virtiofsd"))));
  EXPECT_EQ(parse_recipe(recipe.canonical(), "c").canonical(), recipe.canonical());
  const auto more = with_layers(recipe, {"hypervisor", "containers"});
  EXPECT_EQ(more.name, "small+containers");
  EXPECT_THAT(more.layers, ElementsAre("containers", "hypervisor"));
  EXPECT_THAT(more.packages, AllOf(Contains("podman"), Contains("qemu-system-x86")));
  EXPECT_EQ(parse_recipe(more.canonical(), "c").canonical(), more.canonical());
  auto later = parse_recipe(small, "r.yaml");
  later.suite = "trixie";
  EXPECT_THAT(with_layers(later, {"hypervisor"}).packages, Contains("virtiofsd"));
  EXPECT_EQ(with_layers(parse_recipe(small, "r.yaml"), {}).canonical(), parse_recipe(small, "r.yaml").canonical());
  EXPECT_THAT(refusal(small + "layers: [hypervizor]\n"), HasSubstr("r.yaml:5:10: 'hypervizor' is not a layer"));
}

TEST(Layers, AreWhatTheConfigurationOffers) {
  std::string names;
  for (const auto& layer : image_layers()) names += (names.empty() ? "" : "|") + layer.name;
  EXPECT_EQ(find_config_key("layers")->choices, names);
  for (const auto& layer : image_layers())
    for (const auto& file : layer.files) {
      EXPECT_TRUE(file.path.starts_with("/etc/") || file.path.starts_with("/usr/local/")) << file.path;
      EXPECT_TRUE(file.path.find("..") == std::string_view::npos) << file.path;
    }
  try {
    image_layer("container");
    ADD_FAILURE() << "found";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::usage);
    EXPECT_EQ(error.hint(), "--layers containers");
  }
}

TEST(Recipe, CanonicalFormIgnoresLayoutAndReadsBack) {
  const auto a = parse_recipe(small, "r.yaml");
  const auto b = parse_recipe(
      "# words\npackages:\n  - git\n  - sudo\nkernel: linux-image-cloud-amd64\nsuite: bookworm\nname: small\ndisk: "
      "32G\n",
      "s.yaml");
  EXPECT_EQ(a.canonical(), b.canonical());
  EXPECT_EQ(parse_recipe(a.canonical(), "c").canonical(), a.canonical());
  EXPECT_NE(parse_recipe(small + "mask: [fstrim.timer]\n", "r").canonical(), a.canonical());
}

}  // namespace
}  // namespace agentvm
