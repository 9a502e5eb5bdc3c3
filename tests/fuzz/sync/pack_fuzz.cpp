// Pack headers, entries and deltas from any bytes: no crash, nothing held beyond the caps, and the same answer in
// however many pieces they come.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "sync/git/pack_walk.hpp"
#include "vmm/base/error.hpp"

namespace {

using namespace agentvm;

sync::SyncLimits small_limits() {
  sync::SyncLimits limits;
  limits.objects = 1000;
  limits.object_bytes = 1u << 20;
  limits.expanded_bytes = 2u << 20;
  return limits;
}

/// What the walk says, or "" when it takes the pack. `objects` as far as it came.
std::string judge(std::string_view input, std::size_t piece_bytes, std::uint64_t& objects) {
  git::PackWalk walk(small_limits());
  std::string said;
  try {
    for (auto rest = input; !rest.empty(); rest.remove_prefix(std::min(piece_bytes, rest.size())))
      walk.feed(rest.substr(0, piece_bytes));
    walk.finish();
  } catch (const Error& error) {
    said = error.what();
  }
  objects = walk.objects();
  return said;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  std::uint64_t whole = 0, pieces = 0;
  const auto once = judge(input, input.size() + 1, whole);
  const auto again = judge(input, 1 + data[0] % 97, pieces);
  if (once != again || whole != pieces || whole > small_limits().objects) std::abort();
  return 0;
}
