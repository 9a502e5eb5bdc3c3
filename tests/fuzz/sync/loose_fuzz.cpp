// A loose object from any bytes: no crash, no more than the limit, and what is taken makes a pack that holds just that.
#include <cstdint>
#include <cstdlib>

#include "sync/git/loose_object.hpp"
#include "sync/git/pack_walk.hpp"
#include "vmm/base/error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace agentvm;
  constexpr std::uint64_t limit_bytes = 100'000;
  try {
    auto object = git::read_loose({reinterpret_cast<const char*>(data), size}, limit_bytes);
    if (object.content.size() > limit_bytes) std::abort();
    sync::SyncLimits limits;
    git::PackWalk walk(limits);
    walk.feed(git::pack_of({object, object}));
    walk.finish();
  } catch (const Error&) {
  }
  return 0;
}
