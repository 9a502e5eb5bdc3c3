#include "vmm/base/digest.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/evp.h>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"

namespace agentvm {

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  if (context_ != nullptr && EVP_DigestInit_ex(context_, EVP_sha256(), nullptr) == 1) return;
  EVP_MD_CTX_free(context_);
  throw Error(ErrorCode::operation_failed, "SHA-256 is not available");
}

Sha256::~Sha256() {
  EVP_MD_CTX_free(context_);
}

void Sha256::add(std::string_view data) {
  EVP_DigestUpdate(context_, data.data(), data.size());
}

std::string Sha256::hex() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  EVP_DigestFinal_ex(context_, digest, &size);
  std::string text;
  for (unsigned i = 0; i < size; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

std::string sha256_hex(std::string_view data) {
  Sha256 digest;
  digest.add(data);
  return digest.hex();
}

std::string sha256_file(const std::filesystem::path& path) {
  Sha256 digest;
  const auto fd = open_file(path, O_RDONLY);
  std::string buffer(1u << 18, '\0');
  while (const auto count = read_some(fd.get(), buffer.data(), buffer.size(), Deadline::never()))
    digest.add(std::string_view(buffer).substr(0, count));
  return digest.hex();
}

std::string sha1_bytes(std::string_view data) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  if (EVP_Digest(data.data(), data.size(), digest, &size, EVP_sha1(), nullptr) != 1)
    throw Error(ErrorCode::operation_failed, "SHA-1 is not available");
  return {reinterpret_cast<const char*>(digest), size};
}

}  // namespace agentvm
