#include "vmm/base/yaml.hpp"

#include <sstream>

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include "vmm/base/error.hpp"
#include "vmm/base/text.hpp"

namespace agentvm {
namespace {

constexpr std::size_t max_text_bytes = 1u << 20;
constexpr std::size_t yaml_depth_limit = 32;

YamlMark mark_of(const YAML::Mark& mark) {
  return {mark.line + 1, mark.column + 1};
}

/// Builds the tree from parser events, so that aliases and duplicates are refused before they cost anything.
class Builder final : public YAML::EventHandler {
 public:
  explicit Builder(const std::string& file) : file_(file) {}
  YamlNode take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override {
    add({YamlNode::Kind::null, mark_of(mark), {}, false, {}, {}});
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { fail(mark_of(mark), "aliases are not supported"); }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t, const std::string& value) override {
    const bool quoted = tag == "!";
    const bool null = !quoted && (value.empty() || value == "~" || value == "null");
    add({null ? YamlNode::Kind::null : YamlNode::Kind::scalar, mark_of(mark), value, quoted, {}, {}});
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
    open(YamlNode::Kind::sequence, mark_of(mark));
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
    open(YamlNode::Kind::mapping, mark_of(mark));
  }
  void OnMapEnd() override { close(); }

 private:
  struct Frame {
    YamlNode node;
    std::string key;
    YamlMark key_mark;
    bool have_key = false;
  };

  [[noreturn]] void fail(YamlMark mark, const std::string& reason) {
    throw Error(ErrorCode::usage, fmt::format("{}: {}", at(file_, mark), clean_guest_text(reason)));
  }

  void open(YamlNode::Kind kind, YamlMark mark) {
    if (stack_.size() >= yaml_depth_limit) fail(mark, fmt::format("nested deeper than {}", yaml_depth_limit));
    stack_.push_back({});
    stack_.back().node.kind = kind;
    stack_.back().node.mark = mark;
  }
  void close() {
    auto node = std::move(stack_.back().node);
    stack_.pop_back();
    add(std::move(node));
  }
  void add(YamlNode node) {
    if (stack_.empty()) {
      root_ = std::move(node);
      return;
    }
    auto& frame = stack_.back();
    if (frame.node.kind == YamlNode::Kind::sequence) {
      frame.node.items.push_back(std::move(node));
    } else if (!frame.have_key) {
      if (node.kind != YamlNode::Kind::scalar) fail(node.mark, "a key must be plain text");
      if (frame.node.find(node.scalar)) fail(node.mark, fmt::format("key '{}' is given twice", node.scalar));
      frame.key = node.scalar;
      frame.key_mark = node.mark;
      frame.have_key = true;
    } else {
      frame.node.entries.push_back({std::move(frame.key), frame.key_mark, std::move(node)});
      frame.have_key = false;
    }
  }

  const std::string& file_;
  YamlNode root_;
  std::vector<Frame> stack_;
};

}  // namespace

const YamlNode* YamlNode::find(std::string_view key) const {
  for (const auto& entry : entries)
    if (entry.key == key) return &entry.value;
  return nullptr;
}

std::string at(const std::string& file, YamlMark mark) {
  return fmt::format("{}:{}:{}", file, mark.line, mark.column);
}

YamlNode parse_yaml(std::string_view text, const std::string& file) {
  if (text.size() > max_text_bytes) throw Error(ErrorCode::usage, fmt::format("{}: larger than 1 MiB", file));
  std::istringstream stream{std::string(text)};
  Builder builder(file);
  try {
    YAML::Parser parser(stream);
    parser.HandleNextDocument(builder);
    auto root = builder.take();
    Builder second(file);
    if (parser.HandleNextDocument(second))
      throw Error(ErrorCode::usage, fmt::format("{}: holds more than one document", file));
    return root;
  } catch (const YAML::Exception& problem) {
    throw Error(ErrorCode::usage,
                fmt::format("{}: {}", at(file, mark_of(problem.mark)), clean_guest_text(problem.msg)));
  }
}

}  // namespace agentvm
