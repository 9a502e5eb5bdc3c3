#pragma once
// Authorities of this host's own: for the names of dev servers, and for hosts whose secrets stay here. See README.md.

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "vmm/base/clock.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::proxy {

struct Leaf;  ///< leaf.hpp

/// What an authority is, and when one that is there will not do.
struct AuthoritySpec {
  std::string purpose;               ///< for messages: "https to dev servers"
  std::string title;                 ///< its common name
  std::vector<std::string> domains;  ///< it may sign for these names and names below them alone
  std::int64_t days = 0;             ///< how long it lasts
  std::int64_t least_days = 0;       ///< with less left there is a new one
  enum class Unfit {
    named,     ///< one that cannot be read, or is for other names, is an error: a new one would have to be trusted anew
    replaced,  ///< whoever opens it has the new one trusted
  } unfit = Unfit::named;
};

/// Thread-safe.
class Authority {
 public:
  static constexpr std::size_t leaf_limit = 256;
  static constexpr std::int64_t leaf_days = 30;

  /// Reads the one in `folder` or makes it, for `domain` and names below it; one process at a time may do so. Throws
  /// `operation_failed` naming the file: also when what is there cannot be read or is for another domain, because a
  /// new one would have to be trusted anew.
  static std::shared_ptr<Authority> open(const fs::path& folder, const std::string& domain, Clock& clock);
  /// Likewise, as `spec` says.
  static std::shared_ptr<Authority> open(const fs::path& folder, const AuthoritySpec& spec, Clock& clock);
  ~Authority();

  /// Where the certificate to trust is: PEM, readable without the key.
  const fs::path& certificate_file() const { return certificate_file_; }
  /// The certificate for exactly `name`, valid for at least some days. Throws `usage` when the authority may not sign
  /// for that name, `operation_failed` when OpenSSL fails.
  std::shared_ptr<const Leaf> leaf(const std::string& name);
  std::size_t leaf_count() const;

 private:
  struct Signer;
  struct Known {
    std::shared_ptr<const Leaf> leaf;
    std::int64_t made = 0;  // seconds since 1970
  };
  Authority(std::unique_ptr<Signer> signer, fs::path certificate_file, Clock& clock);

  const std::unique_ptr<Signer> signer_;
  const fs::path certificate_file_;
  Clock& clock_;
  mutable std::mutex mutex_;  // guards leaves_
  std::map<std::string, Known, std::less<>> leaves_;
};

}  // namespace agentvm::proxy
