#include "guest/image/layers.hpp"

#include <fmt/ranges.h>

#include "guest/image/recipe_reader.hpp"

namespace agentvm {
namespace {

constexpr std::array<std::string_view, 6> layer_keys = {"summary", "packages", "suites", "groups", "idle", "wanted"};

bool group_name(std::string_view text) {
  return !text.empty() && text.size() <= 32 && text[0] >= 'a' && text[0] <= 'z' && only(text, "-_");
}

bool any_text(std::string_view text) {
  return !text.empty();
}

ImageLayer parse_layer(const EmbeddedLayer& embedded) {
  const auto file = std::string(embedded.name) + "/layer.yaml";
  const auto root = parse_yaml(embedded.definition, file);
  const RecipeReader reader(root, file, layer_keys, "a layer is a mapping with the keys summary, packages, ...");
  ImageLayer layer{.name = std::string(embedded.name), .files = embedded.files};
  layer.summary = reader.text(reader.needed("summary"), "a line of text", any_text);
  layer.packages = reader.list(reader.needed("packages"), "a package name", package_name);
  if (const auto* suites = root.find("suites"))
    for (const auto& entry : suites->entries)
      layer.suites[entry.key] = reader.list(entry.value, "a package name", package_name);
  if (const auto* groups = root.find("groups")) layer.groups = reader.list(*groups, "a group", group_name);
  if (const auto* idle = root.find("idle")) layer.idle = reader.list(*idle, "a systemd unit", unit_name);
  if (const auto* wanted = root.find("wanted")) layer.wanted = reader.list(*wanted, "a systemd unit", unit_name);
  return layer;
}

}  // namespace

std::set<std::string> ImageLayer::packages_for(const std::string& suite) const {
  std::set<std::string> all(packages.begin(), packages.end());
  if (const auto more = suites.find(suite); more != suites.end()) all.insert(more->second.begin(), more->second.end());
  return all;
}

std::string ImageLayer::settings() const {
  return fmt::format("{}: groups {}; idle {}; wanted {}", name, fmt::join(groups, " "), fmt::join(idle, " "),
                     fmt::join(wanted, " "));
}

const std::vector<ImageLayer>& image_layers() {
  static const auto layers = [] {
    std::vector<ImageLayer> all;
    for (const auto& embedded : embedded_layers()) all.push_back(parse_layer(embedded));
    return all;
  }();
  return layers;
}

const ImageLayer* find_image_layer(std::string_view name) {
  const auto& layers = image_layers();
  const auto found = std::find_if(layers.begin(), layers.end(), [&](const auto& layer) { return layer.name == name; });
  return found == layers.end() ? nullptr : &*found;
}

const ImageLayer& image_layer(std::string_view name) {
  if (const auto* layer = find_image_layer(name)) return *layer;
  std::vector<std::string_view> names;
  for (const auto& layer : image_layers()) names.push_back(layer.name);
  const auto nearest = nearest_word(name, names);
  throw Error(ErrorCode::usage, fmt::format("there is no layer '{}'", name.substr(0, 64)),
              nearest.empty() ? "agentvm image build --help" : fmt::format("--layers {}", nearest));
}

}  // namespace agentvm
