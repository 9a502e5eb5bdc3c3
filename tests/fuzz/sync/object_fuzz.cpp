// The object rules from any bytes: no crash, and an accepted tree has only entries that can lie in a work tree.
#include <cstdint>
#include <cstdlib>

#include "sync/git/lookalikes.hpp"
#include "sync/git/object_rules.hpp"
#include "sync/git/tree.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace agentvm::git;
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 4) {
    case 0:
      if (!tree_problem(input)) {
        const auto entries = parse_tree(input);
        if (!entries) std::abort();
        for (const auto& entry : *entries)
          if (entry.name.empty() || entry.name == ".." || entry.name.find('/') != std::string_view::npos ||
              is_dotgit(entry.name) || entry.raw_oid.size() != 20)
            std::abort();
      }
      break;
    case 1:
      if (!commit_problem(input) && commit_links(input).tree.size() != 40) std::abort();
      break;
    case 2:
      if (!tag_problem(input) && tag_link(input).object.size() != 40) std::abort();
      break;
    default:
      static_cast<void>(gitmodules_problem(input));
  }
  return 0;
}
