#include "proxy/egress/sources.hpp"

#include <algorithm>
#include <charconv>

namespace agentvm::egress {
namespace {

constexpr std::string_view default_registry = "https://registry.npmjs.org/";

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r");
  return first == std::string_view::npos ? std::string_view()
                                         : text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return result;
}

template <class Visit>
void each_line(std::string_view text, Visit visit) {
  while (!text.empty()) {
    const auto end = text.find('\n');
    visit(text.substr(0, end));
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  }
}

template <class Visit>
void each_word(std::string_view text, Visit visit) {
  while (!(text = trimmed(text)).empty()) {
    const auto end = text.find_first_of(" \t");
    visit(text.substr(0, end));
    text = end == std::string_view::npos ? std::string_view() : text.substr(end);
  }
}

void add(std::vector<HostRule>& entries, HostRule entry) {
  for (auto& known : entries)
    if (known.host == entry.host && known.port == entry.port && known.subdomains == entry.subdomains) {
      known.grant = known.grant || entry.grant;
      return;
    }
  entries.push_back(std::move(entry));
}

void add_url(std::vector<HostRule>& entries, std::string_view url, const std::string& origin) {
  if (const auto authority = url_authority(url)) add(entries, {authority->host, authority->port, true, origin});
}

// What stands between a URL's "://" and its host.
std::string without_credentials(std::string_view url) {
  const auto start = url.find("://");
  if (start == std::string_view::npos) return {};
  const auto end = std::min(url.find_first_of("/?#", start + 3), url.size());
  const auto at = url.substr(0, end).rfind('@');
  if (at == std::string_view::npos || at < start) return std::string(url);
  return std::string(url.substr(0, start + 3)) + std::string(url.substr(at + 1));
}

}  // namespace

std::optional<HostPort> url_authority(std::string_view url) {
  const std::string clean = without_credentials(trimmed(url));
  const std::string start = lower(clean.substr(0, 8));
  std::uint16_t port = 0;
  std::string_view rest = clean;
  if (start.starts_with("https://")) {
    port = 443;
    rest.remove_prefix(8);
  } else if (start.starts_with("http://")) {
    port = 80;
    rest.remove_prefix(7);
  } else {
    return std::nullopt;
  }
  rest = rest.substr(0, rest.find_first_of("/?#"));
  try {
    const HostRule entry = HostRule::parse(rest, "url");
    return HostPort{entry.host, entry.port.value_or(port)};
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

std::vector<HostRule> package_source_entries(std::string_view text) {
  std::vector<HostRule> entries;
  const std::string origin = "package sources";
  bool in_uris = false;
  each_line(text, [&](std::string_view line) {
    const bool continued = line.starts_with(' ') || line.starts_with('\t');
    line = trimmed(line);
    if (line.empty() || line.starts_with('#')) return;
    if (continued && in_uris) {
      each_word(line, [&](std::string_view word) { add_url(entries, word, origin); });
      return;
    }
    const auto colon = line.find(':');
    in_uris = colon != std::string_view::npos && lower(line.substr(0, colon)) == "uris";
    if (in_uris) {
      each_word(line.substr(colon + 1), [&](std::string_view word) { add_url(entries, word, origin); });
      return;
    }
    if (!line.starts_with("deb ") && !line.starts_with("deb\t") && !line.starts_with("deb-src ") &&
        !line.starts_with("deb-src\t"))
      return;
    std::string_view rest = trimmed(line.substr(line.find_first_of(" \t")));
    if (rest.starts_with('[')) {
      const auto end = rest.find(']');
      if (end == std::string_view::npos) return;
      rest = trimmed(rest.substr(end + 1));
    }
    add_url(entries, rest.substr(0, rest.find_first_of(" \t")), origin);
  });
  return entries;
}

NpmConfig npm_config(const std::vector<std::string>& npmrc_texts,
                     const std::map<std::string, std::string>& environment) {
  std::map<std::string, std::string> values;
  for (const auto& text : npmrc_texts)
    each_line(text, [&](std::string_view line) {
      line = trimmed(line);
      const auto equals = line.find('=');
      if (line.empty() || line.front() == '#' || line.front() == ';' || equals == std::string_view::npos) return;
      std::string_view value = trimmed(line.substr(equals + 1));
      if (value.size() >= 2 && value.front() == '"' && value.back() == '"') value = value.substr(1, value.size() - 2);
      values[std::string(trimmed(line.substr(0, equals)))] = value;
    });
  for (const auto& [name, value] : environment) {
    const std::string key = lower(name);
    constexpr std::string_view prefix = "npm_config_";
    if (key.starts_with(prefix) && !value.empty()) values[key.substr(prefix.size())] = value;
  }
  NpmConfig config;
  for (const auto& [key, value] : values) {
    if (key == "registry" && url_authority(value)) config.registry = without_credentials(value);
    if (key == "cafile") config.cafile = value;
    if (key == "registry" || (key.starts_with('@') && key.ends_with(":registry")))
      add_url(config.entries, value, "npm configuration");
  }
  if (config.registry.empty()) add_url(config.entries, default_registry, "npm default");
  return config;
}

PipConfig pip_config(const std::vector<std::string>& texts) {
  std::map<std::string, std::string> values;
  for (const auto& text : texts) {
    std::string key;
    bool read_here = false;
    each_line(text, [&](std::string_view line) {
      const bool continued = line.starts_with(' ') || line.starts_with('\t');
      line = trimmed(line);
      if (line.empty() || line.front() == '#' || line.front() == ';') return;
      if (continued) {
        if (!key.empty()) values[key] += " " + std::string(line);
        return;
      }
      key.clear();
      if (line.front() == '[') {
        const auto section = lower(line);
        read_here = section == "[global]" || section == "[install]";
        return;
      }
      const auto equals = line.find_first_of("=:");
      if (!read_here || equals == std::string_view::npos) return;
      key = lower(trimmed(line.substr(0, equals)));
      std::replace(key.begin(), key.end(), '_', '-');
      values[key] = trimmed(line.substr(equals + 1));
    });
  }
  PipConfig config;
  for (const auto* key : {"index-url", "extra-index-url"})
    each_word(values[key], [&](std::string_view word) { add_url(config.entries, word, "pip configuration"); });
  if (const auto& index = values["index-url"]; url_authority(index)) config.index = without_credentials(index);
  return config;
}

std::vector<std::string> extra_authority_files(const NpmConfig& npm,
                                               const std::map<std::string, std::string>& environment) {
  std::vector<std::string> files;
  if (const auto found = environment.find("NODE_EXTRA_CA_CERTS"); found != environment.end() && !found->second.empty())
    files.push_back(found->second);
  if (!npm.cafile.empty() && std::find(files.begin(), files.end(), npm.cafile) == files.end())
    files.push_back(npm.cafile);
  return files;
}

std::vector<HostRule> allow_entries(const std::vector<std::string>& texts, std::string_view origin) {
  std::vector<HostRule> entries;
  for (const auto& text : texts) add(entries, HostRule::parse(text, std::string(origin)));
  return entries;
}

std::vector<HostRule> merged(std::vector<std::vector<HostRule>> lists) {
  std::vector<HostRule> result;
  for (auto& list : lists)
    for (auto& entry : list) add(result, std::move(entry));
  return result;
}

}  // namespace agentvm::egress
