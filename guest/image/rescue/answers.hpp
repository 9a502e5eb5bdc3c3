#pragma once
// What libguestfs answers with: strings and lists that are the caller's to free.

#include <cstdlib>
#include <memory>

namespace agentvm::rescue {

struct FreeText {
  void operator()(char* text) const { std::free(text); }
  void operator()(char** list) const {
    for (char** text = list; *text; ++text) std::free(*text);
    std::free(list);
  }
};
using Text = std::unique_ptr<char, FreeText>;
/// Ends with a null pointer.
using TextList = std::unique_ptr<char*, FreeText>;

}  // namespace agentvm::rescue
