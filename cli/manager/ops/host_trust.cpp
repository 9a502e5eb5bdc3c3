#include "cli/manager/ops/host_trust.hpp"

#include <algorithm>
#include <memory>
#include <set>

#include <fmt/format.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "vmm/base/error.hpp"

namespace agentvm::manager {
namespace {

constexpr std::size_t file_limit_bytes = 4u << 20;
constexpr std::size_t most_certificates = 64;

/// The base64 text without line ends: the same certificate however its lines are broken.
std::string body_of(const std::string& block) {
  const auto start = block.find('\n') + 1;
  auto body = block.substr(start, block.rfind("-----END") - start);
  std::erase_if(body, [](char c) { return c == '\n' || c == '\r' || c == ' '; });
  return body;
}

std::string read_or_nothing(const fs::path& path) {
  try {
    return read_file_if_exists(path, file_limit_bytes).value_or("");
  } catch (const Error&) {
    return "";  // unreadable or huge: not ours to judge, and not needed to start
  }
}

std::vector<std::string> certificates_below(const fs::path& path) {
  std::error_code problem;
  if (!fs::is_directory(path, problem)) return pem_certificates(read_or_nothing(path));
  std::vector<std::string> all;
  for (const auto& entry :
       fs::recursive_directory_iterator(path, fs::directory_options::skip_permission_denied, problem)) {
    const auto extension = entry.path().extension();
    if (extension != ".crt" && extension != ".pem") continue;
    auto blocks = pem_certificates(read_or_nothing(entry.path()));
    std::move(blocks.begin(), blocks.end(), std::back_inserter(all));
  }
  return all;
}

}  // namespace

std::vector<std::string> pem_certificates(std::string_view text) {
  constexpr std::string_view begin = "-----BEGIN CERTIFICATE-----", end = "-----END CERTIFICATE-----";
  std::vector<std::string> blocks;
  for (;;) {
    const auto start = text.find(begin);
    if (start == std::string_view::npos) return blocks;
    const auto stop = text.find(end, start);
    if (stop == std::string_view::npos) return blocks;
    blocks.push_back(std::string(text.substr(start, stop + end.size() - start)) + "\n");
    text.remove_prefix(stop + end.size());
  }
}

std::string subject_hash(const std::string& pem) {
  const std::unique_ptr<BIO, decltype(&BIO_free)> text(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())),
                                                       &BIO_free);
  if (!text) return "";
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(
      PEM_read_bio_X509(text.get(), nullptr, nullptr, nullptr), &X509_free);
  if (!certificate) return "";
  int known = 0;
  const auto hash = X509_NAME_hash_ex(X509_get_subject_name(certificate.get()), nullptr, nullptr, &known);
  return known == 1 ? fmt::format("{:08x}", hash) : "";
}

std::vector<std::string> extra_authorities(const std::vector<fs::path>& sources, const fs::path& distributed) {
  std::set<std::string> known;
  for (const auto& block : certificates_below(distributed)) known.insert(body_of(block));
  // Without the distribution's own list everything would look extra.
  if (known.empty()) return {};
  std::vector<std::string> extra;
  for (const auto& source : sources)
    for (auto& block : certificates_below(source))
      if (extra.size() < most_certificates && known.insert(body_of(block)).second) extra.push_back(std::move(block));
  return extra;
}

}  // namespace agentvm::manager
