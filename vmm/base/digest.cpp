#include "vmm/base/digest.hpp"

#include <memory>

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/evp.h>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"

namespace agentvm {
namespace {
using Context = std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)>;

Context start() {
  Context context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  if (!context || EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) != 1)
    throw Error(ErrorCode::operation_failed, "SHA-256 is not available");
  return context;
}

std::string finish(const Context& context) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  EVP_DigestFinal_ex(context.get(), digest, &size);
  std::string text;
  for (unsigned i = 0; i < size; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}
}  // namespace

std::string sha256_hex(std::string_view data) {
  const auto context = start();
  EVP_DigestUpdate(context.get(), data.data(), data.size());
  return finish(context);
}

std::string sha256_file(const std::filesystem::path& path) {
  const auto context = start();
  const auto fd = open_file(path, O_RDONLY);
  std::string buffer(1u << 18, '\0');
  while (const auto count = read_some(fd.get(), buffer.data(), buffer.size(), Deadline::never()))
    EVP_DigestUpdate(context.get(), buffer.data(), count);
  return finish(context);
}

}  // namespace agentvm
