#pragma once
// Names that end up in paths, host names and tmux sessions: parsed once, never checked again.

#include <compare>
#include <string>
#include <string_view>

namespace agentvm {

/// A sandbox's name: `[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?`, at most 40 characters: also a DNS label and a folder name.
class SandboxName {
 public:
  /// Throws `usage` naming the text and the rule.
  static SandboxName parse(std::string_view text);
  /// From any text (a directory's name): lower case, other characters to `-`, cut to fit; "sandbox" when nothing is
  /// left.
  static SandboxName derive(std::string_view text);
  /// This name with `-suffix` (cut so that it fits), to make it unique.
  SandboxName with_suffix(std::string_view suffix) const;
  const std::string& str() const { return text_; }
  auto operator<=>(const SandboxName&) const = default;

 private:
  explicit SandboxName(std::string text) : text_(std::move(text)) {}
  std::string text_;
};

/// A branch as a tmux session name and DNS label: lower case, every other character to `-`, at most 40; when that
/// changed anything, or the branch looks like such a label itself, `-` and 8 hex digits of the branch's SHA-256 follow,
/// so that two branches never share a label.
std::string branch_label(std::string_view branch);

}  // namespace agentvm
