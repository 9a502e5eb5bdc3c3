#include "proxy/tls/authority.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include "proxy/tls/certificate.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/log.hpp"

namespace agentvm::proxy {
namespace {

constexpr std::size_t pair_limit_bytes = 64 * 1024;
constexpr std::int64_t dev_server_days = 3650;

/// As it may stand in a certificate's name.
std::string host_name() {
  char text[256] = {};
  if (::gethostname(text, sizeof text - 1) != 0) return "this host";
  std::string name(text);
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
  };
  std::erase_if(name, [&](char c) { return !plain(c); });
  return name.empty() ? "this host" : name;
}

/// Nothing when there is none, or when it ends too soon.
std::optional<Leaf> read_pair(const fs::path& file, const AuthoritySpec& spec, std::int64_t now) {
  const auto text = read_file_if_exists(file, pair_limit_bytes);
  if (!text) return std::nullopt;
  try {
    auto pair = from_pem(*text);
    if (!is_authority_for(*pair.certificate, spec.domains))
      throw Error(ErrorCode::operation_failed,
                  fmt::format("it is not an authority for {} alone", fmt::join(spec.domains, ", ")));
    if (ends_at(*pair.certificate) - now > spec.least_days * day_seconds) return pair;
    if (spec.unfit == AuthoritySpec::Unfit::named)
      log::warn("proxy", "the authority for {} ends: there is a new one, to be trusted anew", spec.purpose);
  } catch (const Error&) {
    if (spec.unfit == AuthoritySpec::Unfit::named) throw;
  }
  return std::nullopt;
}

}  // namespace

struct Authority::Signer {
  Leaf pair;
  std::vector<std::string> domains;
};

Authority::Authority(std::unique_ptr<Signer> signer, fs::path certificate_file, Clock& clock)
    : signer_(std::move(signer)), certificate_file_(std::move(certificate_file)), clock_(clock) {}

Authority::~Authority() = default;

std::shared_ptr<Authority> Authority::open(const fs::path& folder, const std::string& domain, Clock& clock) {
  AuthoritySpec spec{.purpose = "https to dev servers",
                     .title = "agentvm on " + host_name(),
                     .domains = {domain},
                     .days = dev_server_days,
                     .least_days = leaf_days};
  return open(folder, spec, clock);
}

std::shared_ptr<Authority> Authority::open(const fs::path& folder, const AuthoritySpec& spec, Clock& clock) {
  const auto pair_file = folder / "authority.pem", certificate_file = folder / "agentvm.crt";
  try {
    ensure_private_dir(folder);
    const auto now = clock.unix_seconds();
    auto pair = read_pair(pair_file, spec, now);
    if (!pair) {
      pair.emplace();
      pair->key = make_key();
      pair->certificate = make_authority(*pair->key, spec.title, spec.domains, now, spec.days);
      write_file_atomic(pair_file, to_pem(*pair), 0600);
    }
    const auto text = to_pem(*pair->certificate);
    if (read_file_if_exists(certificate_file, pair_limit_bytes) != text)
      write_file_atomic(certificate_file, text, 0644);
    return std::shared_ptr<Authority>(
        new Authority(std::make_unique<Signer>(Signer{std::move(*pair), spec.domains}), certificate_file, clock));
  } catch (const Error& error) {
    // One code for all: whoever opens this decides by it.
    throw Error(ErrorCode::operation_failed,
                fmt::format("the authority for {}, {}: {}", spec.purpose, pair_file.string(), error.what()),
                error.hint().empty() ? "ls -l " + folder.string() : error.hint());
  }
}

std::shared_ptr<const Leaf> Authority::leaf(const std::string& name) {
  const auto& domains = signer_->domains;
  // Clients would refuse the rest all the same. Commas would begin another name in OpenSSL's notation.
  const bool plain = name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-.") == name.npos;
  const bool ours = std::any_of(domains.begin(), domains.end(), [&](const std::string& domain) {
    return name == domain || name.ends_with("." + domain);
  });
  if (!plain || !ours)
    throw Error(ErrorCode::usage, fmt::format("{} is not a name below {}", name, fmt::join(domains, ", ")));
  const auto now = clock_.unix_seconds();
  const std::lock_guard lock(mutex_);
  const auto found = leaves_.find(name);
  // A clock that was set back makes those of the future useless.
  const auto fresh = [&](const Known& known) {
    return known.made <= now && now - known.made < leaf_days * day_seconds / 2;
  };
  if (found != leaves_.end() && fresh(found->second)) return found->second.leaf;
  auto leaf = std::make_shared<Leaf>();
  leaf->key = make_key();
  leaf->certificate = make_leaf(*leaf->key, name, signer_->pair, now, leaf_days);
  if (found == leaves_.end() && leaves_.size() >= leaf_limit)
    leaves_.erase(std::min_element(leaves_.begin(), leaves_.end(),
                                   [](const auto& a, const auto& b) { return a.second.made < b.second.made; }));
  leaves_[name] = {leaf, now};
  return leaf;
}

std::size_t Authority::leaf_count() const {
  const std::lock_guard lock(mutex_);
  return leaves_.size();
}

}  // namespace agentvm::proxy
