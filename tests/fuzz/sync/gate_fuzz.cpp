// The gate's readers from any bytes: "<glob>\n<path>\n<target>". No crash, no slow pattern, and what passes is inside.
#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "sync/gate.hpp"

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

std::string_view take_line(std::string_view& rest) {
  const auto end = std::min(rest.find('\n'), rest.size());
  const auto line = rest.substr(0, end);
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return line;
}

/// Read as text, a link that stays inside never climbs above the root and names no .git.
void check_inside(std::string_view path, std::string_view target) {
  require(!target.starts_with('/'));
  auto depth = std::count(path.begin(), path.end(), '/');
  while (!target.empty()) {
    const auto end = std::min(target.find('/'), target.size());
    const auto part = target.substr(0, end);
    if (part == "..") require(--depth >= 0);
    require(part != ".git");
    target.remove_prefix(std::min(end + 1, target.size()));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace agentvm::sync;
  if (size > 8192) return 0;
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  const auto glob = take_line(rest), path = take_line(rest), target = rest;
  static_cast<void>(path_matches(glob, path));
  const bool plain =
      !path.empty() && path.find_first_of("*?") == std::string_view::npos && path.front() != '/' && path.back() != '/';
  if (plain) require(path_matches(path, path) && path_matches("**", path));
  if (link_stays_inside(path, target)) check_inside(path, target);
  IncomingFile file{.path = std::string(path), .new_mode = 0120000, .link_target = std::string(target)};
  const auto kind = gate_kind(file, {});
  if (!kind) check_inside(path, target);
  file.new_mode = 0100644;
  const auto allowed = gate_kind(file, {{"**"}, {}, {}});
  if (plain && allowed) require(*allowed == "agent" || *allowed == "agentvm");
  if (plain) require(gate_kind(file, {{}, {"**"}, {}}).has_value());
  return 0;
}
