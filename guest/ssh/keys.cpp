#include "guest/ssh/keys.hpp"

#include <libssh/libssh.h>

#include "guest/ssh/session/handles.hpp"
#include "vmm/base/error.hpp"

namespace agentvm::guest {
namespace {

std::string private_pem(const ssh_key key) {
  char* text = nullptr;
#if LIBSSH_VERSION_INT >= SSH_VERSION_INT(0, 11, 0)
  const int result =
      ssh_pki_export_privkey_base64_format(key, nullptr, nullptr, nullptr, &text, SSH_FILE_FORMAT_OPENSSH);
#else
  const int result =
      ssh_pki_export_privkey_base64(key, nullptr, nullptr, nullptr, &text);  // ed25519: always the OpenSSH format
#endif
  if (result != SSH_OK) throw Error(ErrorCode::operation_failed, "libssh could not write a private key");
  const StringPtr owner(text);
  std::string pem(text);
  if (!pem.ends_with('\n')) pem += '\n';
  return pem;
}

}  // namespace

KeyPair generate_ed25519(std::string_view comment) {
  for (const unsigned char byte : comment)
    if (byte < 0x20 || byte == 0x7f) throw Error(ErrorCode::usage, "a key's comment holds a control character");
  ssh_key raw = nullptr;
  if (ssh_pki_generate(SSH_KEYTYPE_ED25519, 0, &raw) != SSH_OK)
    throw Error(ErrorCode::operation_failed, "libssh could not make an ed25519 key");
  const KeyPtr key(raw);
  char* text = nullptr;
  if (ssh_pki_export_pubkey_base64(key.get(), &text) != SSH_OK)
    throw Error(ErrorCode::operation_failed, "libssh could not write a public key");
  const StringPtr owner(text);
  KeyPair pair{private_pem(key.get()), "ssh-ed25519 " + std::string(text)};
  if (!comment.empty()) pair.public_line.append(" ").append(comment);
  return pair;
}

KeyPtr parse_public_line(std::string_view line) {
  constexpr std::string_view type = "ssh-ed25519 ";
  if (!line.starts_with(type)) throw Error(ErrorCode::usage, "the public key is not a line 'ssh-ed25519 AAAA...'");
  line.remove_prefix(type.size());
  const std::string blob(line.substr(0, line.find_first_of(" \t\r\n")));
  ssh_key raw = nullptr;
  if (blob.empty() || ssh_pki_import_pubkey_base64(blob.c_str(), SSH_KEYTYPE_ED25519, &raw) != SSH_OK)
    throw Error(ErrorCode::usage, "the public key does not parse as an ed25519 key");
  return KeyPtr(raw);
}

std::string key_fingerprint(std::string_view public_line) {
  const KeyPtr key = parse_public_line(public_line);
  return fingerprint(key.get());
}

std::string fingerprint(const ssh_key key) {
  unsigned char* hash = nullptr;
  std::size_t size = 0;
  if (ssh_get_publickey_hash(key, SSH_PUBLICKEY_HASH_SHA256, &hash, &size) != 0) return "unknown";
  const std::unique_ptr<unsigned char, decltype([](unsigned char* bytes) { ssh_clean_pubkey_hash(&bytes); })> owner(
      hash);
  const StringPtr text(ssh_get_fingerprint_hash(SSH_PUBLICKEY_HASH_SHA256, hash, size));
  return text ? text.get() : "unknown";
}

}  // namespace agentvm::guest
