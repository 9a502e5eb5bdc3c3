// libFuzzer entry for what a guest sends of its build products: a listing, and then the contents of everything in it.
#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "sync/gate.hpp"
#include "sync/git/lookalikes.hpp"
#include "tests/support/artifact_stream.hpp"

namespace {

using namespace agentvm;
using namespace agentvm::sync;

void demand(bool holds) {
  if (!holds) std::abort();
}

/// Any path that gets through stays below its root, outside of .git, and can be shown.
void demand_sound(const std::string& path) {
  demand(!path.empty() && path.front() != '/' && path.size() <= 4096);
  for (std::size_t start = 0; start <= path.size();) {
    const auto end = std::min(path.find('/', start), path.size());
    const auto part = path.substr(start, end - start);
    demand(!part.empty() && part != "." && part != ".." && !git::is_dotgit(part));
    start = end + 1;
  }
  for (const unsigned char c : path) demand(c >= 0x20 && c != 0x7f);
}

struct Counter final : ContentSink {
  void begin(const ListedFile& file) override { left = file.size; }
  void bytes(std::string_view bytes) override {
    demand(bytes.size() <= left);
    left -= bytes.size();
  }
  void hole(std::uint64_t size) override {
    demand(size <= left);
    left -= size;
  }
  void end(bool whole) override { demand(!whole || left == 0); }
  std::uint64_t left = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  test::StringSource source({reinterpret_cast<const char*>(data), size});
  const ArtifactLimits limits{1u << 20, 64};
  try {
    const auto listing = read_listing(source, {"dist", "a/**"}, limits);
    demand(listing.files.size() + listing.links.size() + listing.left_out.size() <= limits.files);
    std::uint64_t bytes = 0;
    std::vector<std::uint32_t> wanted;
    for (std::uint32_t index = 0; index < listing.places.size(); ++index)
      if (listing.places[index] != Listing::none) wanted.push_back(index);
    demand(wanted.size() == listing.files.size());
    for (const auto& file : listing.files) {
      demand_sound(file.path);
      bytes += file.size;
    }
    demand(bytes <= limits.bytes);
    for (const auto& link : listing.links) {
      demand_sound(link.path);
      demand(link_stays_inside(link.path, link.target));
    }
    Counter counter;
    read_contents(source, listing, wanted, counter);
  } catch (const Error&) {
  }
  return 0;
}
