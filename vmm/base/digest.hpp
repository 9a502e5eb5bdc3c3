#pragma once
#include <filesystem>
#include <string>
#include <string_view>

struct evp_md_ctx_st;  // OpenSSL's

namespace agentvm {
/// SHA-256 of what comes in parts. One thread at a time. Throws `operation_failed` where there is no SHA-256.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  void add(std::string_view data);
  /// 64 lower-case hex digits; ends it.
  std::string hex();

 private:
  evp_md_ctx_st* context_;
};

/// 64 lower-case hex digits.
std::string sha256_hex(std::string_view data);
std::string sha256_file(const std::filesystem::path& path);
/// 20 bytes: what git's formats demand; it proves nothing.
std::string sha1_bytes(std::string_view data);
}  // namespace agentvm
