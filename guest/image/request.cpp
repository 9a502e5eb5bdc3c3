#include "guest/image/request.hpp"

#include <fmt/format.h>

#include "guest/image/embedded.hpp"
#include "guest/image/layers.hpp"
#include "vmm/base/digest.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"

namespace agentvm {
namespace {

// Raised when the builder's own steps change what comes out for the same input.
constexpr int builder_version = 2;

/// Each part with its length, so that no two lists of parts are the same text.
std::string digest_of(const std::vector<std::string>& parts) {
  std::string text;
  for (const auto& part : parts) text += fmt::format("{}:{}\n", part.size(), part);
  return sha256_hex(text);
}

void add_files(std::vector<std::string>& parts, std::span<const EmbeddedFile> files) {
  for (const auto& file : files)
    parts.push_back(fmt::format("{} {:o} {}", file.path, file.mode, sha256_hex(file.content)));
}

}  // namespace

ResolvedRequest resolve_request(const ImageRequest& request) {
  ResolvedRequest result;
  if (request.recipe.empty()) {
    result.recipe = default_recipe();
  } else {
    result.recipe = parse_recipe(read_file(request.recipe, 1u << 20), request.recipe.string());
  }
  result.recipe = with_layers(std::move(result.recipe), request.layers);
  result.sources = host_sources(request.apt, result.recipe.suite);
  result.guest_program = request.libexec / "agentvm-guest";
  std::error_code ignored;
  if (!fs::is_regular_file(result.guest_program, ignored))
    throw Error(ErrorCode::host_lacks,
                fmt::format("{} is not there; it is built beside agentvm", result.guest_program.string()),
                "./bootstrap build");

  std::vector<std::string> parts = {fmt::format("agentvm-image {}", builder_version), result.recipe.canonical(),
                                    render_sources(result.sources)};
  for (const auto& source : result.sources)
    if (!source.signed_by.empty()) parts.push_back(sha256_hex(read_file_if_exists(source.signed_by).value_or("")));
  add_files(parts, embedded_rootfs());
  for (const auto& layer : result.recipe.layers) {
    parts.push_back(image_layer(layer).settings());
    add_files(parts, image_layer(layer).files);
  }
  result.root_digest = digest_of(parts);
  result.digest = digest_of({result.root_digest, sha256_file(result.guest_program)});
  return result;
}

}  // namespace agentvm
