#include "proxy/egress/placeholders.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <openssl/crypto.h>

#include "vmm/base/base64.hpp"
#include "vmm/base/error.hpp"

namespace agentvm::egress {
namespace {

constexpr std::string_view basic = "Basic ";

/// git and curl send a token as the password of these, where nobody sees it as text. Nothing when `value` is not that.
std::optional<std::string> basic_credentials(std::string_view value) {
  if (value.size() <= basic.size() || !http::same_name(value.substr(0, basic.size()), basic)) return std::nullopt;
  value.remove_prefix(basic.size());
  while (value.starts_with(' ')) value.remove_prefix(1);
  try {
    return base64_decode(value);
  } catch (const Error&) {
    return std::nullopt;
  }
}

bool holds(std::string_view text, const SecretUse& use) {
  return text.find(use.placeholder) != text.npos;
}

bool field_holds(const http::Field& field, const SecretUse& use) {
  if (holds(field.value, use)) return true;
  const auto credentials = basic_credentials(field.value);
  return credentials && holds(*credentials, use);
}

bool is_its_header(const SecretUse& use, std::string_view name) {
  return std::any_of(use.headers.begin(), use.headers.end(),
                     [&](const std::string& header) { return http::same_name(header, name); });
}

/// The old text is wiped: it may hold the value of another secret already.
void replace_all(std::string& text, std::string_view what, std::string_view with) {
  std::string result;
  result.reserve(text.size() + with.size());
  std::size_t done = 0;
  for (auto at = text.find(what); at != text.npos; at = text.find(what, done)) {
    result.append(text, done, at - done).append(with);
    done = at + what.size();
  }
  result.append(text, done);
  OPENSSL_cleanse(text.data(), text.size());
  text = std::move(result);
}

std::string target_text(const HostPort& target) {
  return target.port == secret_port ? target.host : target.str();
}

}  // namespace

bool SecretUse::meant_for(const HostPort& target) const {
  return std::any_of(hosts.begin(), hosts.end(), [&](const HostRule& rule) {
    return rule.port.value_or(secret_port) == target.port && rule.matches(target.host);
  });
}

std::vector<const SecretUse*> secrets_for(const std::vector<SecretUse>& uses, const HostPort& target) {
  std::vector<const SecretUse*> found;
  for (const auto& use : uses)
    if (use.meant_for(target)) found.push_back(&use);
  return found;
}

std::string stray_placeholder(const std::vector<SecretUse>& uses, const HostPort& target, Passage passage,
                              std::string_view request_target, const http::Fields& fields) {
  for (const auto& use : uses) {
    const bool meant = use.meant_for(target) && passage == Passage::secure;
    if (holds(request_target, use))
      return fmt::format(
          "the placeholder of {} stands in the path of a request for {}; it is replaced in headers alone", use.name,
          target_text(target));
    for (const auto& field : fields) {
      if (!field_holds(field, use) || (meant && is_its_header(use, field.name))) continue;
      if (meant)
        return fmt::format("the placeholder of {} stands in another header than egress.secrets names for it", use.name);
      if (use.meant_for(target)) return fmt::format("the placeholder of {} is sent without TLS", use.name);
      return fmt::format("the placeholder of {} is sent to {}, which is none of its hosts", use.name,
                         target_text(target));
    }
  }
  return "";
}

bool is_wanted(const SecretUse& use, const http::Fields& fields) {
  return std::any_of(fields.begin(), fields.end(), [&](const http::Field& field) {
    return is_its_header(use, field.name) && field_holds(field, use);
  });
}

std::string forbidden_use(const std::vector<const SecretUse*>& uses, const http::Request& request) {
  for (const auto* use : uses) {
    if (!is_wanted(*use, request.fields)) continue;
    const auto why = beyond_rules(use->requests, request);
    if (why.empty()) continue;
    std::vector<std::string> permitted;
    for (const auto& rule : use->requests) permitted.push_back(rule.str());
    return fmt::format("{} may be used for {} alone; of this request, {}", use->name, fmt::join(permitted, ", "), why);
  }
  return "";
}

void put_in(const SecretUse& use, std::string_view value, http::Fields& fields) {
  for (auto& field : fields) {
    if (!is_its_header(use, field.name)) continue;
    if (holds(field.value, use)) {
      replace_all(field.value, use.placeholder, value);
    } else if (auto credentials = basic_credentials(field.value); credentials && holds(*credentials, use)) {
      replace_all(*credentials, use.placeholder, value);
      field.value = std::string(basic) + base64_encode(*credentials);
      OPENSSL_cleanse(credentials->data(), credentials->size());
    }
  }
}

}  // namespace agentvm::egress
