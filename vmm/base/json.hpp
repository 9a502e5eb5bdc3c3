#pragma once
// JSON with errors that name the key. nlohmann-json underneath.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <nlohmann/json.hpp>

#include "vmm/base/error.hpp"

namespace agentvm {

using Json = nlohmann::ordered_json;

/// Throws `operation_failed` naming `subject` when it is not one JSON document. Depth is limited (64) against stack
/// exhaustion.
Json parse_json(std::string_view text, std::string_view subject);
/// Compact, one line; invalid UTF-8 is replaced, never thrown.
std::string dump_json(const Json& value);

/// Whether `value` is a whole number that T can hold.
template <class T>
bool json_fits(const Json& value) {
  if (value.is_number_unsigned()) return std::in_range<T>(value.get<std::uint64_t>());
  return value.is_number_integer() && std::in_range<T>(value.get<std::int64_t>());
}

/// The value of `key` in the object; throws `operation_failed` naming the key when it is absent or of another type.
template <class T>
T require(const Json& object, const std::string& key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  if (!object.is_object() || found == object.end())
    throw Error(ErrorCode::operation_failed, "key '" + key + "' is missing");
  if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
    // The library's own conversion wraps 70000 to a uint16_t and cuts 2.5 to 2.
    if (!json_fits<T>(*found))
      throw Error(ErrorCode::operation_failed, "key '" + key + "' has the wrong type or is out of range");
  }
  try {
    return found->template get<T>();
  } catch (const nlohmann::json::exception&) {
    throw Error(ErrorCode::operation_failed, "key '" + key + "' has the wrong type");
  }
}
/// `fallback` when the key is absent or null; another type throws.
template <class T>
T value_or(const Json& object, const std::string& key, T fallback) {
  if (!object.is_object() || !object.contains(key) || object.at(key).is_null()) return fallback;
  return require<T>(object, key);
}

}  // namespace agentvm
