#include "cli/manager/ops/start_history.hpp"

#include <algorithm>
#include <map>

#include "vmm/base/error.hpp"
#include "vmm/base/log.hpp"

namespace agentvm::manager {
namespace {

constexpr const char* schema = "agentvm.starts/1";
constexpr std::size_t kept_starts = 20;
constexpr std::size_t file_limit_bytes = 1u << 20;

/// kind -> starts, oldest first; each a list of rows.
Json read_history(const fs::path& file) {
  try {
    if (const auto text = read_file_if_exists(file, file_limit_bytes)) {
      auto history = parse_json(*text, file.string());
      if (value_or<std::string>(history, "schema", "") == schema && history.contains("starts") &&
          history["starts"].is_object())
        return history["starts"];
    }
  } catch (const Error& error) {
    log::debug("start", "{}", error.what());
  }
  return Json::object();
}

std::map<std::string, std::vector<long long>> spans_of(const Json& starts) {
  std::map<std::string, std::vector<long long>> spans;
  if (!starts.is_array()) return spans;
  for (const auto& start : starts)
    for (const auto& row : start)
      spans[value_or<std::string>(row, "phase", "")].push_back(value_or<long long>(row, "milliseconds", 0));
  return spans;
}

}  // namespace

Json with_medians(const fs::path& file, const std::string& kind, Json timing) {
  const auto history = read_history(file);
  auto spans = spans_of(history.contains(kind) ? history[kind] : Json::array());
  for (auto& row : timing) {
    auto& known = spans[value_or<std::string>(row, "phase", "")];
    row["median_milliseconds"] = nullptr;
    if (known.empty()) continue;
    const auto middle = known.begin() + static_cast<std::ptrdiff_t>(known.size() / 2);
    std::nth_element(known.begin(), middle, known.end());
    row["median_milliseconds"] = *middle;
  }
  return timing;
}

void remember_start(const fs::path& file, const std::string& kind, const Json& timing) {
  ensure_private_dir(file.parent_path());
  auto history = read_history(file);
  auto& starts = history[kind];
  if (!starts.is_array()) starts = Json::array();
  auto plain = Json::array();
  for (const auto& row : timing)
    plain.push_back({{"phase", value_or<std::string>(row, "phase", "")},
                     {"milliseconds", value_or<long long>(row, "milliseconds", 0)}});
  starts.push_back(std::move(plain));
  while (starts.size() > kept_starts) starts.erase(starts.begin());
  write_file_atomic(file, dump_json({{"schema", schema}, {"starts", history}}));
}

}  // namespace agentvm::manager
