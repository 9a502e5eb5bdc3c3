#include "guest/image/recipe.hpp"

#include "guest/image/embedded.hpp"
#include "guest/image/layers.hpp"
#include "guest/image/recipe_reader.hpp"
#include "vmm/base/json.hpp"

namespace agentvm {
namespace {

constexpr std::array<std::string_view, 7> recipe_keys = {"name",     "suite", "kernel", "disk",
                                                         "packages", "mask",  "layers"};

bool is_layer(std::string_view text) {
  return find_image_layer(text) != nullptr;
}

void add_packages_of_layers(Recipe& recipe) {
  std::set<std::string> packages(recipe.packages.begin(), recipe.packages.end());
  for (const auto& name : recipe.layers) packages.merge(image_layer(name).packages_for(recipe.suite));
  recipe.packages.assign(packages.begin(), packages.end());
}

}  // namespace

Recipe parse_recipe(std::string_view text, const std::string& file) {
  const auto root = parse_yaml(text, file);
  const RecipeReader reader(root, file, recipe_keys, "a recipe is a mapping with the keys name, suite, ...");
  Recipe recipe;
  recipe.name = reader.text(reader.needed("name"), "a name (lower-case letters, digits, + - .)", package_name);
  recipe.suite = reader.text(reader.needed("suite"), "a Debian suite", suite_name);
  recipe.kernel = reader.text(reader.needed("kernel"), "a package name", package_name);
  recipe.packages = reader.list(reader.needed("packages"), "a package name", package_name);
  recipe.disk = ByteSize::gibibytes(32);
  if (const auto* disk = root.find("disk"))
    recipe.disk = reader.size(*disk, ByteSize::gibibytes(4), ByteSize::gibibytes(1024));
  if (const auto* mask = root.find("mask")) recipe.mask = reader.list(*mask, "a systemd unit", unit_name);
  if (const auto* layers = root.find("layers")) {
    recipe.layers = reader.list(*layers, "a layer", is_layer);
    add_packages_of_layers(recipe);
  }
  return recipe;
}

Recipe with_layers(Recipe recipe, const std::vector<std::string>& layers) {
  std::set<std::string> all(recipe.layers.begin(), recipe.layers.end());
  // Sorted, because the name is in the digest and the order that they are named in says nothing.
  for (const auto& name : std::set<std::string>(layers.begin(), layers.end()))
    if (all.insert(image_layer(name).name).second) recipe.name += "+" + name;
  recipe.layers.assign(all.begin(), all.end());
  add_packages_of_layers(recipe);
  return recipe;
}

std::string Recipe::canonical() const {
  Json json{{"name", name},         {"suite", suite},       {"kernel", kernel},
            {"disk", disk.bytes()}, {"packages", packages}, {"mask", mask}};
  if (!layers.empty()) json["layers"] = layers;
  return dump_json(json);
}

std::string_view default_recipe_text() {
  return embedded_recipe();
}

const Recipe& default_recipe() {
  static const Recipe recipe = parse_recipe(default_recipe_text(), "default.yaml");
  return recipe;
}

}  // namespace agentvm
