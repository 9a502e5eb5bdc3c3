#pragma once
// A sandbox with a secret for api.test, and a server that stands for that API.

#include <fmt/format.h>

#include "proxy/egress/caps.hpp"
#include "proxy/egress/secrets.hpp"
#include "tests/contract/egress/tls_peer.hpp"
#include "tests/support/temporary_folder.hpp"

namespace agentvm::egress {

inline const std::string placeholder = "sk-00112233445566778899aabbccddeeff", value = "sk-the-value-that-stays-here";
inline const std::string other_placeholder = "glpat-ffeeddccbbaa99887766554433221100";

class SecretsTest : public EgressTest {
 protected:
  SecretsTest() {
    world_ = proxy::Authority::open(folder_ / "world", "test", system_clock());
    // Rooms that OpenSSL makes once must not count as lost.
    before_ = open_descriptors();
  }

  /// What the server shows, and what it does with each connection.
  using Serve = std::function<void(TlsPeer&)>;
  void start(Serve serve, const std::string& shown = "api.test", Limits limits = {},
             std::shared_ptr<proxy::Authority> shown_by = nullptr) {
    const auto leaf = (shown_by ? shown_by : world_)->leaf(shown);
    server_ = std::make_unique<Server>([this, leaf, serve = std::move(serve)](int fd) {
      TlsPeer peer(fd, *leaf);
      if (!peer.problem().empty()) return;
      ++greeted_;
      serve(peer);
    });
    begin(limits);
  }
  /// With a server that answers every request with what it has heard.
  void start_echo() {
    start([this](TlsPeer& peer) {
      for (auto head = peer.read_head(); head.ends_with("\r\n\r\n"); head = peer.read_head()) {
        heard_.add(head);
        peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Answer: yes\r\n\r\nok");
      }
    });
  }
  void begin(Limits limits) {
    const auto at_port = [this](const char* name) { return fmt::format("{}:{}", name, server_->port); };
    EgressTest::start({grant(at_port("api.test")), grant(at_port("other.test")), grant(at_port("forge.test")),
                       grant(at_port("slow.test"))},
                      limits);
    proxy::AuthoritySpec spec{.purpose = "secrets of box",
                              .title = "box",
                              .domains = {"api.test", "forge.test", "bait.test"},
                              .days = 90,
                              .least_days = 45,
                              .unfit = proxy::AuthoritySpec::Unfit::replaced};
    auto set = std::make_shared<SecretSet>();
    const auto rule = [&](const char* name) { return HostRule::parse(at_port(name), "egress.secrets"); };
    set->uses = {{"API_KEY", placeholder, {rule("api.test")}, {"Authorization", "x-api-key"}, requests_},
                 {"FORGE", other_placeholder, {rule("forge.test")}, {"Authorization"}, {}}};
    for (auto decoy : decoys_) {
      for (auto& host : decoy.hosts) host.port = server_->port;
      set->decoys.push_back(std::move(decoy));
    }
    if (!set->decoys.empty()) set->search = std::make_shared<DecoySearch>(set->decoys);
    set->authority = proxy::Authority::open(folder_ / "box", spec, system_clock());
    set->values = std::make_shared<SecretValues>(
        std::vector<SecretSource>{{"API_KEY", "env:API_KEY"}, {"FORGE", "env:FORGE"}},
        [this](const std::string& from) {
          ++reads_;
          system_clock().sleep(source_takes_);
          if (source_problem_.empty() && from == "env:API_KEY") return value;
          throw Error(ErrorCode::operation_failed, source_problem_);
        },
        system_clock());
    set->upstream = std::make_shared<UpstreamTls>(std::vector<std::string>{read_file(world_->certificate_file())});
    trusted_ = set->authority->certificate_file();
    egress_->set_secrets("box", set);
    std::vector<Cap> caps;
    for (const auto& text : caps_) caps.push_back(Cap::parse(fmt::format(fmt::runtime(text), server_->port)));
    if (!caps.empty()) egress_->set_caps("box", std::make_shared<CapLedger>(std::move(caps)));
  }

  /// A program in the guest, connected through a tunnel to `host`.
  struct Client {
    UniqueFd fd;
    std::unique_ptr<TlsPeer> tls;
  };
  Client client(const std::string& host = "api.test", TlsPeer::Wish wish = {"api.test"}) {
    Client made{tunnel(host, server_->port), nullptr};
    made.tls = std::make_unique<TlsPeer>(made.fd.get(), trusted_, wish);
    return made;
  }
  std::string host_line() const { return fmt::format("Host: api.test:{}\r\n", server_->port); }
  std::string request(const std::string& more = "", const std::string& line = "GET / HTTP/1.1") const {
    return line + "\r\n" + host_line() + more + "\r\n";
  }
  static std::string key_header() { return "x-api-key: " + placeholder + "\r\n"; }
  /// The whole answer to one request, and its connection's end.
  std::string one(const std::string& bytes) {
    const auto made = client();
    if (!made.tls->problem().empty()) return made.tls->problem();
    made.tls->write(bytes);
    return made.tls->read_to_end();
  }
  void TearDown() override {
    EgressTest::egress_.reset();
    server_.reset();
    EgressTest::TearDown();
  }

  test::TemporaryFolder folder_;
  std::shared_ptr<proxy::Authority> world_;
  std::unique_ptr<Server> server_;
  std::filesystem::path trusted_;
  Heard heard_;
  std::atomic<int> greeted_ = 0, reads_ = 0;
  std::string source_problem_;
  milliseconds source_takes_{0};
  std::vector<RequestRule> requests_;  // what API_KEY may be used for; before the start
  std::vector<std::string> caps_;      // with {} for the server's port; before the start
  std::vector<Decoy> decoys_;          // each at the server's port; before the start
};

}  // namespace agentvm::egress
