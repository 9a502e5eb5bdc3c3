#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "guest/agents/agents.hpp"
#include "guest/agents/words.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/names.hpp"
#include "vmm/base/nearest.hpp"
#include "vmm/base/yaml.hpp"

namespace agentvm::guest {
namespace {

using Kind = YamlNode::Kind;

class Reader {
 public:
  Reader(const YamlNode& root, const std::string& file) : file_(file) {
    only_keys(root, keys, "an agent");
    agent_.name = text(root, "name", true);
    try {
      SandboxName::parse(agent_.name);
    } catch (const Error&) {
      fail(root.find("name")->mark, fmt::format("'{}' is no name: lower-case letters, digits and '-'", agent_.name));
    }
    agent_.title = text(root, "title", false);
    if (agent_.title.empty()) agent_.title = agent_.name;
    agent_.install = text(root, "install", false);
    for (const auto& item : items(root, "packages")) agent_.packages.push_back(package(item));
    agent_.command = words(root, "command");
    if (agent_.command.empty()) fail(root.mark, "'command' is missing: the program and its first words");
    agent_.arguments = words(root, "arguments");
    agent_.task = words(root, "task");
    agent_.run = words(root, "run");
    environment(root);
    for (const auto& item : items(root, "files")) agent_.files.push_back(file_of(item));
    for (const auto& item : items(root, "credentials"))
      agent_.credentials.push_back(home_path(scalar(item, "credentials"), item.mark));
  }
  AgentDefinition take() { return std::move(agent_); }

 private:
  static constexpr std::array<std::string_view, 11> keys = {"name",        "title",     "packages",   "install",
                                                            "command",     "arguments", "task",       "run",
                                                            "environment", "files",     "credentials"};
  static constexpr std::array<std::string_view, 4> package_keys = {"name", "version", "sha512", "variant"};
  static constexpr std::array<std::string_view, 2> file_keys = {"path", "content"};

  [[noreturn]] void fail(YamlMark mark, const std::string& why) const {
    throw Error(ErrorCode::usage, fmt::format("{}: {}", at(file_, mark), why), "agentvm agents list");
  }

  template <std::size_t count>
  void only_keys(const YamlNode& node, const std::array<std::string_view, count>& known, const char* what) const {
    if (node.kind != Kind::mapping)
      fail(node.mark, fmt::format("{} is a mapping with the keys {} ...", what, known[0]));
    for (const auto& entry : node.entries) {
      if (std::find(known.begin(), known.end(), entry.key) != known.end()) continue;
      const auto nearest = nearest_word(entry.key, known);
      fail(entry.key_mark, fmt::format("unknown key '{}'{}", entry.key,
                                       nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest)));
    }
  }

  std::string scalar(const YamlNode& node, std::string_view what) const {
    if (node.kind != Kind::scalar) fail(node.mark, fmt::format("'{}' is a text", what));
    if (node.scalar.find('\0') != std::string::npos) fail(node.mark, fmt::format("'{}' has a NUL in it", what));
    return node.scalar;
  }

  std::string text(const YamlNode& node, std::string_view key, bool required) const {
    const auto* value = node.find(key);
    if (value) return scalar(*value, key);
    if (required) fail(node.mark, fmt::format("'{}' is missing", key));
    return "";
  }

  const std::vector<YamlNode>& items(const YamlNode& node, std::string_view key) const {
    static const std::vector<YamlNode> none;
    const auto* value = node.find(key);
    if (!value || value->kind == Kind::null) return none;
    if (value->kind != Kind::sequence) fail(value->mark, fmt::format("'{}' is a list", key));
    return value->items;
  }

  std::vector<std::string> words(const YamlNode& node, std::string_view key) const {
    std::vector<std::string> words;
    for (const auto& item : items(node, key)) words.push_back(scalar(item, key));
    return words;
  }

  AgentPackage package(const YamlNode& node) const {
    only_keys(node, package_keys, "a package");
    AgentPackage package{text(node, "name", true), text(node, "version", true), text(node, "sha512", true),
                         text(node, "variant", false)};
    if (!is_package_name(package.name)) fail(node.mark, fmt::format("'{}' is no name of a package", package.name));
    if (!is_package_version(package.version)) fail(node.mark, fmt::format("'{}' is no version", package.version));
    if (!is_package_digest(package.sha512)) fail(node.mark, "'sha512' is not 128 lower-case hex digits");
    if (!package.variant.empty() && !package.version.ends_with("-" + package.variant))
      fail(node.mark, fmt::format("'{}' does not end with its variant", package.version));
    return package;
  }

  AgentFile file_of(const YamlNode& node) const {
    only_keys(node, file_keys, "a file");
    return {home_path(text(node, "path", true), node.mark), text(node, "content", true)};
  }

  std::string home_path(const std::string& text, YamlMark mark) const {
    const std::filesystem::path path(text);
    // Compared as text: as paths, "a//b" and "a/b" are equal.
    const bool leaves = path.empty() || path.is_absolute() || path.lexically_normal().string() != text ||
                        *path.begin() == ".." || path.filename().empty() || path.filename() == ".";
    if (leaves) fail(mark, fmt::format("'{}' is no path below the home folder", text));
    return text;
  }

  void environment(const YamlNode& root) {
    const auto* node = root.find("environment");
    if (!node) return;
    if (node->kind != Kind::mapping) fail(node->mark, "'environment' is a mapping of names to texts");
    for (const auto& entry : node->entries) {
      if (entry.key.empty() || std::isdigit(static_cast<unsigned char>(entry.key[0])) ||
          !letters_digits_or(entry.key, "_"))
        fail(entry.key_mark, fmt::format("'{}' is no name of a variable", entry.key));
      agent_.environment[entry.key] = scalar(entry.value, entry.key);
    }
  }

  const std::string& file_;
  AgentDefinition agent_;
};

}  // namespace

AgentDefinition parse_agent(std::string_view text, const std::string& file) {
  return Reader(parse_yaml(text, file), file).take();
}

}  // namespace agentvm::guest
