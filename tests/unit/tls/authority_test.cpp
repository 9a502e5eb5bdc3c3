#include "proxy/tls/authority.hpp"

#include <gmock/gmock.h>
#include <openssl/pem.h>
#include <sys/stat.h>

#include "proxy/tls/certificate.hpp"
#include "tests/support/temporary_folder.hpp"

namespace agentvm::proxy {
namespace {

using testing::HasSubstr;
using testing::Not;

class HandClock : public Clock {
 public:
  SteadyTime steady() override { return {}; }
  std::int64_t unix_seconds() override { return now; }
  void sleep(milliseconds) override {}
  std::int64_t now = system_clock().unix_seconds();
};

mode_t mode_of(const fs::path& path) {
  struct stat info {};
  EXPECT_EQ(::stat(path.c_str(), &info), 0);
  return info.st_mode & 07777;
}

class AuthorityTest : public testing::Test {
 protected:
  std::shared_ptr<Authority> open() { return Authority::open(folder, "localhost", clock); }
  Leaf pair() { return from_pem(read_file(folder / "authority.pem")); }
  std::string certificate() { return read_file(folder / "agentvm.crt"); }

  /// What a client says to `leaf` that trusts what is in agentvm.crt; X509_V_OK when it takes it for a server's.
  int verdict(X509* leaf) {
    open();
    const Memory text(BIO_new_file((folder / "agentvm.crt").c_str(), "r"));
    const Certificate trusted(PEM_read_bio_X509(text.get(), nullptr, nullptr, nullptr));
    const std::unique_ptr<X509_STORE, FreeWith<X509_STORE_free>> store(X509_STORE_new());
    X509_STORE_add_cert(store.get(), trusted.get());
    const std::unique_ptr<X509_STORE_CTX, FreeWith<X509_STORE_CTX_free>> check(X509_STORE_CTX_new());
    X509_STORE_CTX_init(check.get(), store.get(), leaf, nullptr);
    X509_STORE_CTX_set_purpose(check.get(), X509_PURPOSE_SSL_SERVER);
    X509_VERIFY_PARAM_set_flags(X509_STORE_CTX_get0_param(check.get()), X509_V_FLAG_X509_STRICT);
    X509_verify_cert(check.get());
    return X509_STORE_CTX_get_error(check.get());
  }
  /// What our own authority would have signed, had it been asked.
  Certificate signed_for(const std::string& name) {
    open();
    return make_leaf(*make_key(), name, pair(), clock.now, Authority::leaf_days);
  }

  test::TemporaryFolder temporary;
  fs::path folder = temporary / "proxy-ca";
  HandClock clock;
};

TEST_F(AuthorityTest, IsMadeOnceAndItsKeyIsPrivate) {
  open();
  EXPECT_EQ(mode_of(folder), 0700u);
  EXPECT_EQ(mode_of(folder / "authority.pem"), 0600u);
  EXPECT_THAT(read_file(folder / "authority.pem"), HasSubstr("PRIVATE KEY"));
  EXPECT_EQ(mode_of(folder / "agentvm.crt"), 0644u);
  EXPECT_THAT(certificate(), Not(HasSubstr("PRIVATE")));
  const auto first = certificate();
  open();
  EXPECT_EQ(certificate(), first);
  fs::remove(folder / "agentvm.crt");
  EXPECT_EQ(open()->certificate_file(), folder / "agentvm.crt");
  EXPECT_EQ(certificate(), first);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), fs::directory_iterator()), 2);
}

TEST_F(AuthorityTest, SaysWhatItMayDoAndNoMore) {
  open();
  const auto kept = pair();
  auto* const own = kept.certificate.get();
  EXPECT_LE(ends_at(*own) - clock.now, 3650 * day_seconds);
  EXPECT_TRUE(is_authority_for(*own, {"localhost"}));
  EXPECT_FALSE(is_authority_for(*own, {"example.org"}));
  EXPECT_EQ(X509_get_pathlen(own), 0);
  EXPECT_EQ(X509_get_key_usage(own), static_cast<std::uint32_t>(KU_KEY_CERT_SIGN));
  EXPECT_EQ(X509_get_extended_key_usage(own), static_cast<std::uint32_t>(XKU_SSL_SERVER));
  for (const int kind : {NID_basic_constraints, NID_name_constraints, NID_key_usage})
    EXPECT_EQ(X509_EXTENSION_get_critical(X509_get_ext(own, X509_get_ext_by_NID(own, kind, -1))), 1) << kind;
}

TEST_F(AuthorityTest, ALeafIsForOneNameAndSomeDays) {
  const auto authority = open();
  const auto leaf = authority->leaf("3000.box.localhost");
  auto* const shown = leaf->certificate.get();
  EXPECT_EQ(verdict(shown), X509_V_OK);
  EXPECT_EQ(verdict(authority->leaf("localhost")->certificate.get()), X509_V_OK);
  const auto is_for = [&](const char* name) { return X509_check_host(shown, name, 0, 0, nullptr) == 1; };
  EXPECT_TRUE(is_for("3000.box.localhost"));
  for (const char* name : {"box.localhost", "localhost", "4000.box.localhost", "a.3000.box.localhost", "agentvm"})
    EXPECT_FALSE(is_for(name)) << name;
  EXPECT_LE(ends_at(*shown) - clock.now, 30 * day_seconds);
  EXPECT_EQ(X509_get_extension_flags(shown) & EXFLAG_CA, 0u);
  EXPECT_EQ(X509_get_key_usage(shown), static_cast<std::uint32_t>(KU_DIGITAL_SIGNATURE));
}

/// Whoever trusts the authority, and loses its key to somebody, loses no name but these.
TEST_F(AuthorityTest, NoOtherNameIsBelievedEvenWhenItIsSigned) {
  EXPECT_EQ(verdict(signed_for("box.localhost").get()), X509_V_OK);
  for (const char* name : {"example.org", "localhost.example.org", "xlocalhost", "box.localhost,DNS:example.org"})
    EXPECT_EQ(verdict(signed_for(name).get()), X509_V_ERR_PERMITTED_VIOLATION) << name;
  for (const char* name : {"localhost,IP:127.0.0.1", "localhost,IP:192.0.2.1", "localhost,IP:2001:db8::1"})
    EXPECT_EQ(verdict(signed_for(name).get()), X509_V_ERR_EXCLUDED_VIOLATION) << name;
}

TEST_F(AuthorityTest, NothingElseIsSigned) {
  const auto authority = open();
  for (const char* name : {"", "example.org", "xlocalhost", "*.localhost", "example.org,DNS:box.localhost",
                           "Box.localhost", "box.localhost.", "a\nb.localhost"}) {
    const auto error = test::error_of([&] { authority->leaf(name); });
    ASSERT_TRUE(error) << name;
    EXPECT_EQ(error->code(), ErrorCode::usage);
  }
  EXPECT_EQ(authority->leaf_count(), 0u);
}

TEST_F(AuthorityTest, LeavesAreKeptAndRenewedInTime) {
  const auto authority = open();
  const auto first = authority->leaf("box.localhost");
  clock.now += 14 * day_seconds;
  EXPECT_EQ(authority->leaf("box.localhost"), first);
  clock.now += 2 * day_seconds;
  const auto second = authority->leaf("box.localhost");
  EXPECT_NE(second, first);
  EXPECT_EQ(authority->leaf("box.localhost"), second);
  clock.now -= 16 * day_seconds;  // it was wrong
  EXPECT_NE(authority->leaf("box.localhost"), second);
  EXPECT_EQ(authority->leaf_count(), 1u);
}

TEST_F(AuthorityTest, OnlySoManyLeavesAreKept) {
  const auto authority = open();
  for (std::size_t i = 0; i < Authority::leaf_limit + 10; ++i) {
    ++clock.now;
    authority->leaf(std::to_string(i) + ".box.localhost");
  }
  EXPECT_EQ(authority->leaf_count(), Authority::leaf_limit);
}

TEST_F(AuthorityTest, OneThatEndsIsReplaced) {
  open();
  const auto first = certificate();
  clock.now += 3600 * day_seconds;
  open();
  EXPECT_EQ(certificate(), first);
  clock.now += 30 * day_seconds;
  open();
  EXPECT_NE(certificate(), first);
}

/// A new one would have to be trusted anew: that is for its owner to decide.
TEST_F(AuthorityTest, WhatCannotBeUsedIsNamedAndLeftAlone) {
  open();
  const auto sound = read_file(folder / "authority.pem");
  const auto problem = [&] {
    const auto error = test::error_of([&] { open(); });
    return error && error->code() == ErrorCode::operation_failed ? error->message() : std::string("none");
  };
  for (const auto& text : {std::string(), std::string("nonsense"), sound.substr(0, sound.size() / 2), certificate()}) {
    write_file_atomic(folder / "authority.pem", text);
    EXPECT_THAT(problem(), HasSubstr("authority.pem")) << text;
    EXPECT_EQ(read_file(folder / "authority.pem"), text);
  }
  write_file_atomic(folder / "authority.pem", sound);
  const auto other = test::error_of([&] { Authority::open(folder, "example.org", clock); });
  ASSERT_TRUE(other);
  EXPECT_THAT(other->message(), HasSubstr("not an authority for example.org alone"));
  fs::permissions(folder, fs::perms::group_read, fs::perm_options::add);
  EXPECT_THAT(problem(), HasSubstr("proxy-ca"));
}

/// Of hosts whose secrets stay here: several names, and a new one whenever the old will not do.
class SecretsAuthorityTest : public AuthorityTest {
 protected:
  std::shared_ptr<Authority> open_for(std::vector<std::string> domains) {
    spec.domains = std::move(domains);
    return Authority::open(folder, spec, clock);
  }
  std::string why_not(const std::string& name) {
    const auto error = test::error_of([&] { Authority::open(folder, spec, clock)->leaf(name); });
    return error ? error->message() : "";
  }
  AuthoritySpec spec{.purpose = "secrets of box",
                     .title = "agentvm, sandbox box",
                     .domains = {},
                     .days = 90,
                     .least_days = 45,
                     .unfit = AuthoritySpec::Unfit::replaced};
};

TEST_F(SecretsAuthorityTest, SignsForItsHostsAlone) {
  const auto authority = open_for({"api.example.org", "example.net"});
  EXPECT_TRUE(is_authority_for(*pair().certificate, {"api.example.org", "example.net"}));
  EXPECT_LE(ends_at(*pair().certificate) - clock.now, 90 * day_seconds);
  EXPECT_EQ(why_not("api.example.org"), "");
  EXPECT_EQ(why_not("one.example.net"), "");
  EXPECT_EQ(why_not("example.org"), "example.org is not a name below api.example.org, example.net");
  const auto trusted = pair();
  const auto verdict_of = [&](const std::string& name) {
    const auto leaf = make_leaf(*make_key(), name, trusted, clock.now, 1);
    const std::unique_ptr<X509_STORE, FreeWith<X509_STORE_free>> store(X509_STORE_new());
    X509_STORE_add_cert(store.get(), trusted.certificate.get());
    const std::unique_ptr<X509_STORE_CTX, FreeWith<X509_STORE_CTX_free>> check(X509_STORE_CTX_new());
    X509_STORE_CTX_init(check.get(), store.get(), leaf.get(), nullptr);
    X509_verify_cert(check.get());
    return X509_STORE_CTX_get_error(check.get());
  };
  EXPECT_EQ(verdict_of("api.example.org"), X509_V_OK);
  EXPECT_EQ(verdict_of("one.example.net"), X509_V_OK);
  for (const char* name : {"example.org", "xapi.example.org", "github.com", "localhost"})
    EXPECT_EQ(verdict_of(name), X509_V_ERR_PERMITTED_VIOLATION) << name;
}

TEST_F(SecretsAuthorityTest, IsReplacedWhenItWillNotDo) {
  open_for({"api.example.org"});
  const auto first = certificate();
  open_for({"api.example.org"});
  EXPECT_EQ(certificate(), first);
  open_for({"api.example.org", "example.net"});
  const auto second = certificate();
  EXPECT_NE(second, first);
  clock.now += 46 * day_seconds;
  open_for({"api.example.org", "example.net"});
  const auto third = certificate();
  EXPECT_NE(third, second);
  write_file_atomic(folder / "authority.pem", "nonsense");
  open_for({"api.example.org", "example.net"});
  EXPECT_NE(certificate(), third);
}

/// Of a guest that runs: what it does not trust is of no use to it.
TEST_F(SecretsAuthorityTest, IsKeptWhereItMustNotChange) {
  open_for({"api.example.org"});
  const auto first = certificate();
  spec.unfit = AuthoritySpec::Unfit::named;
  spec.least_days = 0;
  clock.now += 60 * day_seconds;
  open_for({"api.example.org"});
  EXPECT_EQ(certificate(), first);
  const auto error = test::error_of([&] { open_for({"example.net"}); });
  ASSERT_TRUE(error);
  EXPECT_THAT(error->message(), HasSubstr("the authority for secrets of box"));
  EXPECT_EQ(certificate(), first);
}

}  // namespace
}  // namespace agentvm::proxy
