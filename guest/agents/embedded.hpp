#pragma once
#include <span>
#include <string_view>

namespace agentvm::guest {

struct EmbeddedText {
  std::string_view name, text;
};
/// guest/agents/catalog/*.yaml.
std::span<const EmbeddedText> embedded_agents();

}  // namespace agentvm::guest
