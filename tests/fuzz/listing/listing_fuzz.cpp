// libFuzzer entry for the listing of a folder on a guest's disk.
#include <cstdint>
#include <cstdlib>

#include "guest/image/listing.hpp"
#include "vmm/base/error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace agentvm;
  try {
    std::string again;
    const auto entries = parse_listing({reinterpret_cast<const char*>(data), size});
    for (const auto& entry : entries) {
      if (entry.name.empty() || entry.name.find('/') != entry.name.npos || entry.name.find('\0') != entry.name.npos)
        std::abort();
      again += format_listed(entry);
    }
    // Numbers have several spellings; what was read is what is written.
    const auto back = parse_listing(again);
    if (back.size() != entries.size()) std::abort();
    for (std::size_t i = 0; i < back.size(); ++i)
      if (format_listed(back[i]) != format_listed(entries[i])) std::abort();
  } catch (const Error&) {
  }
  return 0;
}
