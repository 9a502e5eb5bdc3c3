// libFuzzer entry for the archive that comes from the disk of a guest that is gone.
#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "sync/artifacts/tar.hpp"
#include "tests/support/artifact_stream.hpp"

namespace {

using namespace agentvm;
using namespace agentvm::sync;

constexpr ArtifactLimits limits{1u << 20, 64};

void demand(bool holds) {
  if (!holds) std::abort();
}

/// Any path that gets through stays below its root.
void demand_sound(const std::string& path) {
  demand(!path.empty() && path.size() <= 4096 && path.find('\0') == path.npos);
  for (std::size_t start = 0; start <= path.size();) {
    const auto end = std::min(path.find('/', start), path.size());
    const auto part = path.substr(start, end - start);
    demand(!part.empty() && part != "." && part != "..");
    start = end + 1;
  }
}

struct Judge final : TarSink {
  void entry(const TarEntry& entry) override {
    demand(!open);
    demand_sound(entry.path);
    if (entry.kind == TarEntry::Kind::same) demand_sound(entry.target);
    if (entry.kind == TarEntry::Kind::link) demand(!entry.target.empty());
    open = entry.kind == TarEntry::Kind::file;
    demand(open || entry.size == 0);
    left = entry.size;
    all += entry.size;
    demand(all <= limits.bytes && ++entries <= limits.files);
  }
  void bytes(std::string_view bytes) override {
    demand(open && bytes.size() <= left);
    left -= bytes.size();
  }
  void end() override {
    demand(open && left == 0);
    open = false;
  }
  bool open = false;
  std::uint64_t left = 0, all = 0, entries = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  test::StringSource source({reinterpret_cast<const char*>(data), size});
  Judge judge;
  try {
    read_tar(source, limits, judge);
    demand(!judge.open);
  } catch (const Error&) {
  }
  return 0;
}
