#include "proxy/tls/certificate.hpp"

#include <fmt/format.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>

#include "vmm/base/error.hpp"

namespace agentvm::proxy {
namespace {

constexpr int serial_bytes = 16;
constexpr std::size_t common_name_limit_bytes = 64;  // of X.520

[[noreturn]] void fail(std::string_view what) {
  char reason[256];
  ERR_error_string_n(ERR_get_error(), reason, sizeof reason);
  ERR_clear_error();
  throw Error(ErrorCode::operation_failed, fmt::format("{}: {}", what, reason));
}

void must(bool good, std::string_view what) {
  if (!good) fail(what);
}

std::string constraints(const std::vector<std::string>& domains) {
  std::string text = "critical";
  for (const auto& domain : domains) text += ",permitted;DNS:" + domain;
  // Kinds that are not named are free: addresses are, unless they are excluded.
  return text + ",excluded;IP:0.0.0.0/0.0.0.0,excluded;IP:0:0:0:0:0:0:0:0/0:0:0:0:0:0:0:0";
}

Extension make_extension(X509* issuer, X509* subject, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, subject, nullptr, nullptr, 0);
  return Extension(X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
}

void add_extension(X509* issuer, X509* subject, int nid, const std::string& value) {
  const auto extension = make_extension(issuer, subject, nid, value);
  must(extension && X509_add_ext(subject, extension.get(), -1) == 1, "making a certificate's extension");
}

void set_name(X509_NAME* name, const char* field, std::string_view value) {
  must(X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8, reinterpret_cast<const unsigned char*>(value.data()),
                                  static_cast<int>(value.size()), -1, 0) == 1,
       "naming a certificate");
}

/// Version, serial number, key and times; the rest is the caller's.
Certificate begin_certificate(EVP_PKEY& key, std::int64_t from, std::int64_t until) {
  Certificate certificate(X509_new());
  must(certificate && X509_set_version(certificate.get(), X509_VERSION_3) == 1, "making a certificate");
  unsigned char serial[serial_bytes];
  must(RAND_bytes(serial, sizeof serial) == 1, "making a serial number");
  serial[0] &= 0x7f;  // it is a positive number
  const std::unique_ptr<BIGNUM, FreeWith<BN_free>> number(BN_bin2bn(serial, sizeof serial, nullptr));
  must(number && BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate.get())) &&
           X509_set_pubkey(certificate.get(), &key) == 1 &&
           ASN1_TIME_set(X509_getm_notBefore(certificate.get()), from) &&
           ASN1_TIME_set(X509_getm_notAfter(certificate.get()), until),
       "making a certificate");
  return certificate;
}

}  // namespace

Key make_key() {
  Key key(EVP_EC_gen("P-256"));
  must(key != nullptr, "making a key");
  return key;
}

Certificate make_authority(EVP_PKEY& key, const std::string& title, const std::vector<std::string>& domains,
                           std::int64_t now, std::int64_t days) {
  auto certificate = begin_certificate(key, now - day_seconds, now + days * day_seconds - day_seconds);
  auto* const self = certificate.get();
  set_name(X509_get_subject_name(self), "CN", title.substr(0, common_name_limit_bytes));
  must(X509_set_issuer_name(self, X509_get_subject_name(self)) == 1, "naming a certificate");
  add_extension(self, self, NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
  add_extension(self, self, NID_key_usage, "critical,keyCertSign");
  add_extension(self, self, NID_ext_key_usage, "serverAuth");
  add_extension(self, self, NID_name_constraints, constraints(domains));
  add_extension(self, self, NID_subject_key_identifier, "hash");
  must(X509_sign(self, &key, EVP_sha256()) > 0, "signing a certificate");
  return certificate;
}

Certificate make_leaf(EVP_PKEY& key, const std::string& name, const Leaf& authority, std::int64_t now,
                      std::int64_t days) {
  auto* const issuer = authority.certificate.get();
  auto certificate = begin_certificate(key, now - day_seconds, now + days * day_seconds);
  auto* const self = certificate.get();
  // No common name: old programs would take it for a name of the server's.
  set_name(X509_get_subject_name(self), "O", "agentvm");
  must(X509_set_issuer_name(self, X509_get_subject_name(issuer)) == 1, "naming a certificate");
  add_extension(issuer, self, NID_basic_constraints, "critical,CA:FALSE");
  add_extension(issuer, self, NID_key_usage, "critical,digitalSignature");
  add_extension(issuer, self, NID_ext_key_usage, "serverAuth");
  add_extension(issuer, self, NID_subject_alt_name, "DNS:" + name);
  add_extension(issuer, self, NID_subject_key_identifier, "hash");
  add_extension(issuer, self, NID_authority_key_identifier, "keyid:always");
  must(X509_sign(self, authority.key.get(), EVP_sha256()) > 0, "signing a certificate");
  return certificate;
}

std::string to_pem(X509& certificate) {
  const Memory memory(BIO_new(BIO_s_mem()));
  must(memory && PEM_write_bio_X509(memory.get(), &certificate) == 1, "writing a certificate");
  char* data = nullptr;
  const long size = BIO_get_mem_data(memory.get(), &data);
  return {data, static_cast<std::size_t>(size)};
}

std::string to_pem(const Leaf& pair) {
  const Memory memory(BIO_new(BIO_s_secmem()));
  must(
      memory && PEM_write_bio_PKCS8PrivateKey(memory.get(), pair.key.get(), nullptr, nullptr, 0, nullptr, nullptr) == 1,
      "writing a key");
  char* data = nullptr;
  const long size = BIO_get_mem_data(memory.get(), &data);
  return std::string(data, static_cast<std::size_t>(size)) + to_pem(*pair.certificate);
}

Leaf from_pem(const std::string& text) {
  const Memory memory(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  must(memory != nullptr, "reading a certificate");
  // Without a callback OpenSSL would ask the terminal for the password of an encrypted key.
  const auto no_password = [](char*, int, int, void*) { return -1; };
  Leaf pair;
  pair.key.reset(PEM_read_bio_PrivateKey(memory.get(), nullptr, no_password, nullptr));
  must(pair.key != nullptr, "reading a key");
  pair.certificate.reset(PEM_read_bio_X509(memory.get(), nullptr, no_password, nullptr));
  must(pair.certificate && X509_check_private_key(pair.certificate.get(), pair.key.get()) == 1,
       "reading a certificate");
  return pair;
}

std::int64_t ends_at(X509& certificate) {
  tm time{};
  must(ASN1_TIME_to_tm(X509_get0_notAfter(&certificate), &time) == 1, "reading a certificate's end");
  return ::timegm(&time);
}

bool is_authority_for(X509& certificate, const std::vector<std::string>& domains) {
  const auto wanted = make_extension(nullptr, nullptr, NID_name_constraints, constraints(domains));
  must(wanted != nullptr, "making a certificate's extension");
  const int at = X509_get_ext_by_NID(&certificate, NID_name_constraints, -1);
  if (at < 0) return false;
  auto* const found = X509_get_ext(&certificate, at);
  return X509_EXTENSION_get_critical(found) == 1 &&
         ASN1_OCTET_STRING_cmp(X509_EXTENSION_get_data(found), X509_EXTENSION_get_data(wanted.get())) == 0;
}

}  // namespace agentvm::proxy
