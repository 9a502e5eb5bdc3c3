#include "guest/image/sources.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <sstream>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "vmm/base/files.hpp"

namespace agentvm {
namespace {

constexpr std::array<std::string_view, 6> debian_components = {"main",   "contrib", "non-free", "non-free-firmware",
                                                               "rescue", "local"};
constexpr std::array<std::string_view, 10> debian_suites = {"bullseye", "bookworm", "trixie",   "forky",     "sid",
                                                            "stable",   "testing",  "unstable", "oldstable", "duke"};

std::vector<std::string> words(std::string_view text) {
  std::istringstream stream{std::string(text)};
  std::vector<std::string> result;
  for (std::string word; stream >> word;) result.push_back(word);
  return result;
}

std::string lower(std::string text) {
  for (auto& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

/// A keyring's path; key ids and keys written into the file itself are left to apt's trusted keys.
std::string keyring_path(const std::string& value) {
  const bool plain = !value.empty() && value[0] == '/' && value.find_first_of(" ,\n[]") == std::string::npos;
  return plain && value.find("/../") == std::string::npos ? value : "";
}

bool web(std::string_view uri) {
  return uri.starts_with("http://") || uri.starts_with("https://");
}

/// "bookworm-security" with "bookworm" is "-security"; nothing when `suite` belongs to another base.
const std::string* pocket_of(const std::string& suite, const std::string& base) {
  static const std::array<std::string, 4> pockets = {"", "-updates", "-security", "/updates"};
  for (const auto& pocket : pockets)
    if (suite == base + pocket) return &pocket;
  return nullptr;
}

std::vector<std::string> only_debian(const std::vector<std::string>& components) {
  std::vector<std::string> result;
  for (const auto& component : components)
    if (std::find(debian_components.begin(), debian_components.end(), component) != debian_components.end())
      result.push_back(component);
  // Others use the suite's name with components of their own ("stable"): only an archive with main is Debian.
  if (std::find(result.begin(), result.end(), "main") == result.end()) result.clear();
  return result;
}

void add_unique(std::vector<PackageSource>& list, PackageSource source) {
  if (std::find(list.begin(), list.end(), source) == list.end()) list.push_back(std::move(source));
}

std::vector<PackageSource> with_base(const std::vector<PackageSource>& all, const std::string& base,
                                     const std::string& wanted) {
  std::vector<PackageSource> result;
  for (auto source : all) {
    const auto* pocket = pocket_of(source.suite, base);
    source.components = only_debian(source.components);
    if (!pocket || source.components.empty() || !web(source.uri)) continue;
    source.suite = wanted + *pocket;
    add_unique(result, std::move(source));
  }
  return result;
}

}  // namespace

std::string strip_userinfo(std::string_view uri) {
  const auto start = uri.find("://");
  if (start == std::string_view::npos) return std::string(uri);
  const auto host = start + 3;
  const auto path = std::min(uri.find_first_of("/?#", host), uri.size());
  const auto sign = uri.substr(host, path - host).rfind('@');
  if (sign == std::string_view::npos) return std::string(uri);
  return std::string(uri.substr(0, host)) + std::string(uri.substr(host + sign + 1));
}

std::vector<PackageSource> parse_sources_list(std::string_view text) {
  std::vector<PackageSource> result;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    line = line.substr(0, line.find('#'));
    std::string options;
    if (const auto open = line.find('['); open != std::string::npos) {
      const auto close = line.find(']', open);
      if (close == std::string::npos) continue;
      options = line.substr(open + 1, close - open - 1);
      line.erase(open, close - open + 1);
    }
    auto parts = words(line);
    if (parts.size() < 3 || parts[0] != "deb") continue;
    PackageSource source{strip_userinfo(parts[1]), parts[2], {parts.begin() + 3, parts.end()}, ""};
    for (const auto& option : words(options))
      if (option.starts_with("signed-by=")) source.signed_by = keyring_path(option.substr(10));
    result.push_back(std::move(source));
  }
  return result;
}

std::vector<PackageSource> parse_deb822_sources(std::string_view text) {
  std::vector<PackageSource> result;
  std::map<std::string, std::string> stanza;
  std::string last;
  const auto finish = [&] {
    const auto types = words(stanza["types"]);
    if (lower(stanza["enabled"]) != "no" && std::find(types.begin(), types.end(), "deb") != types.end())
      for (const auto& uri : words(stanza["uris"]))
        for (const auto& suite : words(stanza["suites"])) {
          const auto keys = words(stanza["signed-by"]);
          result.push_back(
              {strip_userinfo(uri), suite, words(stanza["components"]), keys.size() == 1 ? keyring_path(keys[0]) : ""});
        }
    stanza.clear();
    last.clear();
  };
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with('#')) continue;
    if (line.find_first_not_of(" \t\r") == std::string::npos) {
      finish();
    } else if (line[0] == ' ' || line[0] == '\t') {
      if (!last.empty()) stanza[last] += line;
    } else if (const auto colon = line.find(':'); colon != std::string::npos) {
      last = lower(line.substr(0, colon));
      const auto values = words(line.substr(colon + 1));
      stanza[last] = fmt::format("{}", fmt::join(values, " "));
    }
  }
  finish();
  return result;
}

std::vector<PackageSource> debian_sources(const std::vector<PackageSource>& all, const std::string& suite) {
  auto result = with_base(all, suite, suite);
  for (const auto other : debian_suites) {
    if (!result.empty()) break;
    result = with_base(all, std::string(other), suite);
  }
  return result;
}

std::vector<PackageSource> host_sources(const fs::path& apt_folder, const std::string& suite) {
  std::vector<fs::path> files = {apt_folder / "sources.list"};
  std::error_code ignored;
  std::vector<fs::path> parts;
  for (const auto& entry : fs::directory_iterator(apt_folder / "sources.list.d", ignored))
    parts.push_back(entry.path());
  std::sort(parts.begin(), parts.end());
  files.insert(files.end(), parts.begin(), parts.end());
  std::vector<PackageSource> all;
  for (const auto& file : files) {
    const bool deb822 = file.extension() == ".sources";
    if (!deb822 && file.extension() != ".list") continue;
    const auto text = read_file_if_exists(file).value_or("");
    auto found = deb822 ? parse_deb822_sources(text) : parse_sources_list(text);
    std::move(found.begin(), found.end(), std::back_inserter(all));
  }
  auto result = debian_sources(all, suite);
  if (!result.empty()) return result;
  const std::string keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
  const auto signed_by = fs::exists(keyring, ignored) ? keyring : "";
  const std::vector<std::string> main = {"main"};
  return {{"http://deb.debian.org/debian", suite, main, signed_by},
          {"http://deb.debian.org/debian", suite + "-updates", main, signed_by},
          {"http://deb.debian.org/debian-security", suite + "-security", main, signed_by}};
}

std::string render_sources(const std::vector<PackageSource>& sources) {
  std::string text;
  for (const auto& source : sources)
    text += fmt::format("deb {}{} {} {}\n", source.signed_by.empty() ? "" : "[signed-by=" + source.signed_by + "] ",
                        source.uri, source.suite, fmt::join(source.components, " "));
  return text;
}

}  // namespace agentvm
