#include "proxy/egress/sources.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "proxy/egress/guest_settings.hpp"
#include "vmm/base/process.hpp"

namespace agentvm::egress {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::vector<std::string> names(const std::vector<HostRule>& entries) {
  std::vector<std::string> result;
  for (const auto& entry : entries)
    result.push_back(HostPort{entry.host, entry.port.value_or(0)}.str() + (entry.grant ? " grant" : ""));
  return result;
}

TEST(Sources, OneLineFormat) {
  EXPECT_THAT(names(package_source_entries(
                  "# deb http://comment.test/ x main\n"
                  "deb http://deb.example.org/debian bookworm main contrib\n"
                  "deb [arch=amd64 signed-by=/k.gpg] https://user:secret@mirror.example.org:8443/debian bookworm main\n"
                  "  deb-src\thttp://deb.example.org/debian bookworm main\n"
                  "deb cdrom:[Debian]/ bookworm main\n"
                  "deb file:/srv/debian bookworm main\n"
                  "deb [unclosed http://bad.test x\n")),
              ElementsAre("deb.example.org:80 grant", "mirror.example.org:8443 grant"));
}

TEST(Sources, Deb822WithContinuedLines) {
  EXPECT_THAT(names(package_source_entries(
                  "Types: deb\nURIs: http://a.example.org/debian\n http://b.example.org/debian\n# no: http://c.test\n"
                  "\thttps://d.example.org\nSuites: bookworm\n http://not-a-uri.test\nComponents: main\n\n"
                  "Types: deb\nuris: https://tok@e.example.org:444/x mirror+file:/etc/mirrors\n")),
              ElementsAre("a.example.org:80 grant", "b.example.org:80 grant", "d.example.org:443 grant",
                          "e.example.org:444 grant"));
}

TEST(Sources, NoCredentialsComeAlong) {
  const NpmConfig npm =
      npm_config({"registry=https://user:pass@npm.example.org/repo/\n//npm.example.org/:_authToken=secret\n"}, {});
  EXPECT_EQ(npm.registry, "https://npm.example.org/repo/");
  for (const auto& file : guest_settings(npm, {}).files) {
    EXPECT_THAT(file.content, Not(HasSubstr("pass")));
    EXPECT_THAT(file.content, Not(HasSubstr("secret")));
  }
}

TEST(Sources, NpmRegistriesScopesAndTheEnvironment) {
  const NpmConfig npm =
      npm_config({"registry = \"http://old.example.org\"\n; c\n@corp:registry=https://corp.example.org:8443/npm/\n",
                  "cafile=/etc/corp.pem\n"},
                 {{"npm_config_registry", "https://new.example.org/"}, {"HOME", "/x"}});
  EXPECT_THAT(names(npm.entries),
              testing::UnorderedElementsAre("corp.example.org:8443 grant", "new.example.org:443 grant"));
  EXPECT_EQ(npm.registry, "https://new.example.org/");
  EXPECT_THAT(extra_authority_files(npm, {{"NODE_EXTRA_CA_CERTS", "/etc/node.pem"}}),
              ElementsAre("/etc/node.pem", "/etc/corp.pem"));
  EXPECT_THAT(names(npm_config({}, {}).entries), ElementsAre("registry.npmjs.org:443 grant"));
  EXPECT_THAT(extra_authority_files(npm_config({}, {}), {}), IsEmpty());
}

TEST(Sources, PipIndexesWithoutTheirCredentials) {
  const PipConfig pip =
      pip_config({"index-url = http://no-section.test/\n[global]\nindex_url = https://old.test/simple\n",
                  "[global]\ntimeout = 60\n# index-url = https://comment.test/\n"
                  "index-url = https://user:secret@pip.example.org:8443/simple/\n"
                  "extra-index-url =\n    https://a.example.org/simple\n    http://b.example.org/simple\n"
                  "[download]\nindex-url = https://other.test/\n"});
  EXPECT_EQ(pip.index, "https://pip.example.org:8443/simple/");
  EXPECT_THAT(names(pip.entries),
              ElementsAre("pip.example.org:8443 grant", "a.example.org:443 grant", "b.example.org:80 grant"));
  for (const auto& file : guest_settings({}, pip).files) EXPECT_THAT(file.content, Not(HasSubstr("secret")));
  EXPECT_THAT(names(pip_config({}).entries), IsEmpty());
  EXPECT_EQ(pip_config({"[global]\nindex-url = ftp://x/\n"}).index, "");
}

TEST(Sources, ListsMergeAndGrantsStay) {
  const auto merged_list =
      merged({allow_entries({"A.test", "b.test:99"}, "egress.allow"), {{"a.test", std::nullopt, true, "other"}}});
  EXPECT_THAT(names(merged_list), ElementsAre("a.test:0 grant", "b.test:99"));
}

TEST(Sources, UrlsThatAreNone) {
  for (const auto* url :
       {"", "ftp://a.test/", "http://", "http://a b/", "http://a.test:0/", "a.test", "http://[::1", "javascript:x"})
    EXPECT_FALSE(url_authority(url)) << url;
  EXPECT_EQ(url_authority("HTTPS://u@A.test./p@q")->str(), "a.test:443");
  EXPECT_EQ(url_authority("http://[2001:db8::1]:81/x")->str(), "[2001:db8::1]:81");
}

TEST(GuestSettings, SayTheProxyToEveryProgram) {
  const GuestSettings settings =
      guest_settings({.registry = "https://npm.example.org/"}, {.index = "https://pip.example.org/simple"});
  EXPECT_THAT(settings.environment,
              testing::IsSupersetOf({"http_proxy=http://127.0.0.1:3128", "HTTPS_PROXY=http://127.0.0.1:3128",
                                     "no_proxy=localhost,127.0.0.1,::1"}));
  std::map<std::string, std::string> files;
  for (const auto& file : settings.files) files[file.path] = file.content;
  EXPECT_THAT(files["/etc/npmrc"], HasSubstr("https-proxy=http://127.0.0.1:3128\n"));
  EXPECT_THAT(files["/etc/npmrc"], HasSubstr("registry=https://npm.example.org/\n"));
  EXPECT_THAT(files["/etc/apt/apt.conf.d/90agentvm-proxy"],
              HasSubstr("Acquire::https::Proxy \"http://127.0.0.1:3128\";\n"));
  EXPECT_EQ(files["/etc/pip.conf"],
            "[global]\nproxy = http://127.0.0.1:3128\nindex-url = https://pip.example.org/simple\n");
  EXPECT_THAT(settings.environment, testing::Contains("CARGO_HTTP_PROXY=http://127.0.0.1:3128"));
  EXPECT_THAT(settings.environment, testing::Contains("npm_config_globalconfig=/etc/npmrc"));
  EXPECT_THAT(settings.environment, Not(testing::Contains(HasSubstr("ALL_PROXY"))));
  EXPECT_THAT(files["/etc/chromium/policies/managed/agentvm.json"],
              HasSubstr("\"EncryptedClientHelloEnabled\": false"));
  ASSERT_EQ(settings.git.size(), 1u);
  EXPECT_EQ(settings.git[0].key, "http.proxy");
  // A shell and apt take them as meant.
  EXPECT_EQ(run_checked({.argv = {"sh", "-c", files["/etc/profile.d/agentvm-proxy.sh"] + "printf %s $https_proxy"},
                         .env = std::map<std::string, std::string>()},
                        Deadline::after(milliseconds(5000))),
            "http://127.0.0.1:3128");
}

}  // namespace
}  // namespace agentvm::egress
