#include "cli/manager/ops/requests.hpp"

#include <fmt/format.h>

namespace agentvm::manager {
namespace {

std::map<std::string, std::string> read_texts(const Json& params, const std::string& key) {
  std::map<std::string, std::string> texts;
  const auto found = params.find(key);
  if (found == params.end() || found->is_null()) return texts;
  if (!found->is_object()) throw Error(ErrorCode::usage, fmt::format("'{}' of the request is not an object", key));
  for (const auto& [name, value] : found->items()) {
    if (value.is_string())
      texts[name] = value.get<std::string>();
    else if (value.is_boolean() || value.is_number())
      texts[name] = value.dump();
    else
      throw Error(ErrorCode::usage, fmt::format("'{}.{}' of the request is not text", key, name));
  }
  return texts;
}

}  // namespace

std::string text_or_empty(const Json& params, const std::string& key) {
  return value_or<std::string>(params, key, "");
}

std::optional<std::string> optional_text(const Json& params, const std::string& key) {
  auto text = text_or_empty(params, key);
  if (text.empty()) return std::nullopt;
  return text;
}

ClientSetting read_client_setting(const Json& params) {
  ClientSetting setting;
  setting.cwd = text_or_empty(params, "cwd");
  if (!setting.cwd.is_absolute()) throw Error(ErrorCode::usage, "the request has no working directory");
  setting.path = (setting.cwd / text_or_empty(params, "path")).lexically_normal();
  setting.flags = read_texts(params, "flags");
  setting.environment = read_texts(params, "env");
  return setting;
}

}  // namespace agentvm::manager
