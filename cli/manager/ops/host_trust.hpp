#pragma once
// Certificate authorities that this host trusts beyond its distribution's: a company's TLS inspection, say. A guest's
// programs meet the same certificates through the egress proxy.

#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/files.hpp"

namespace agentvm::manager {

/// The PEM certificate blocks in `text`, each with its BEGIN and END lines and a newline; anything else is dropped.
std::vector<std::string> pem_certificates(std::string_view text);

/// What OpenSSL looks a certificate's subject up by in a folder: eight hex digits (X509_NAME_hash_ex, as c_rehash names
/// its links). Empty when `pem` is no certificate.
std::string subject_hash(const std::string& pem);

/// Certificates of `sources` (files or folders of *.crt and *.pem; missing ones are skipped) that are in no file below
/// `distributed`. Without doubles, at most 64. Pure but for reading files.
std::vector<std::string> extra_authorities(const std::vector<fs::path>& sources, const fs::path& distributed);

}  // namespace agentvm::manager
