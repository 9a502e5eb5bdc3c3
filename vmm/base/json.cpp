#include "vmm/base/json.hpp"

#include <fmt/format.h>

#include "vmm/base/text.hpp"

namespace agentvm {
namespace {
constexpr int json_depth_limit = 64;
}

Json parse_json(std::string_view text, std::string_view subject) {
  // nlohmann's parser is iterative, but its destructor and our walkers recurse: refuse deep nesting before parsing.
  int depth = 0;
  bool in_string = false, escaped = false;
  for (const char c : text) {
    if (in_string) {
      if (escaped)
        escaped = false;
      else if (c == '\\')
        escaped = true;
      else if (c == '"')
        in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > json_depth_limit)
        throw Error(ErrorCode::operation_failed,
                    fmt::format("{}: JSON nested deeper than {}", subject, json_depth_limit));
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  try {
    return Json::parse(text);
  } catch (const nlohmann::json::exception& problem) {
    throw Error(ErrorCode::operation_failed,
                fmt::format("{}: not valid JSON: {}", subject, clean_guest_text(problem.what())));
  }
}

std::string dump_json(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace agentvm
