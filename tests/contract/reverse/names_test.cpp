// Which requests reach a server at all: names, origins, states; and the pages that the others get.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "tests/contract/reverse/fixture.hpp"
#include "tests/support/temporary_folder.hpp"
#include "vmm/base/json.hpp"

namespace agentvm::proxy {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string upgrade(const std::string& host, const std::string& more) {
  return fmt::format(
      "GET /hmr HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{}\r\n",
      host, more);
}

TEST_F(ReverseTest, NoOtherNameReachesAServer) {
  Server server([](int fd) { serve_each(fd, [](auto&, auto&) { return answer_with("secret"); }); });
  start();
  route("box", {server.port});
  const std::string port = std::to_string(proxy_->site().port);
  for (const auto& [name, status] :
       std::vector<std::pair<std::string, int>>{{"evil.example", 421},
                                                {"evil.example:" + port, 421},
                                                {"box.localhost", 421},
                                                {"box.localhost:1", 421},
                                                {"box.localhost.:" + port, 421},
                                                {"box.localhost.evil.example:" + port, 421},
                                                {"127.0.0.1:" + port, 421},
                                                {"[::1]:" + port, 421},
                                                {"other.localhost:" + port, 421},
                                                {"box.box.localhost:" + port, 503},
                                                {"feature." + host(server.port), 421},
                                                {"feature." + host("other"), 421},
                                                {fmt::format("{}.feature.{}", server.port, host("box")), 503},
                                                {"0" + host(server.port), 421},
                                                {"box.localhost:" + port + ",evil.example", 400},
                                                {"a@" + host("box"), 400},
                                                {host("box") + "/", 400},
                                                {"", 400},
                                                {host("box") + "\r\nHost: " + host("box"), 400}}) {
    const auto answer = get(name);
    EXPECT_EQ(status_of(answer), status) << name;
    EXPECT_THAT(answer, Not(HasSubstr("secret"))) << name;
  }
  EXPECT_EQ(status_of(ask(fmt::format("GET http://{0}/ HTTP/1.1\r\nHost: {0}\r\n\r\n", host("box")))), 400);
  EXPECT_EQ(server.accepted, 0);
  EXPECT_EQ(dials_, 0);
  EXPECT_THAT(get(host("box")), HasSubstr("secret"));
  EXPECT_THAT(get(host(server.port)), HasSubstr("secret"));
  EXPECT_THAT(get("BOX.LocalHost:" + port), HasSubstr("secret"));
}

TEST_F(ReverseTest, AWorkTreesNameReachesItsServersAlone) {
  Server feature([](int fd) { serve_each(fd, [](auto& head, auto&) { return answer_with(head); }); });
  Server main([](int fd) { serve_each(fd, [](auto&, auto&) { return answer_with("main"); }); });
  start();
  route("box", {main.port, feature.port});
  proxy_->routes().change([](Routes& all) { all["box"].ports[1].worktree = "feature"; });
  const auto name = "feature." + host("box");
  const auto answer = get(name);
  EXPECT_THAT(answer, AllOf(HasSubstr("HTTP/1.1 200"), HasSubstr("Host: " + name + "\r\n")));
  EXPECT_EQ(status_of(get(fmt::format("{}.{}", feature.port, name))), 200);
  EXPECT_THAT(get(host("box")), HasSubstr("main"));
  EXPECT_EQ(status_of(ask(upgrade(name, "Origin: http://" + host("other") + "\r\nConnection: close\r\n"))), 403);
  EXPECT_EQ(status_of(ask(upgrade(name, "Origin: http://" + name + "\r\nConnection: close\r\n"))), 200);
  const int before = main.accepted;
  const auto foreign = get(fmt::format("{}.{}", main.port, name));
  EXPECT_THAT(foreign, AllOf(HasSubstr("HTTP/1.1 503"), HasSubstr("in the work tree feature of box")));
  EXPECT_THAT(get("quiet." + host("box")), HasSubstr("Nothing listens in the work tree quiet of box yet"));
  EXPECT_EQ(main.accepted, before);
  EXPECT_THAT(get(fmt::format("localhost:{}", proxy_->site().port)),
              HasSubstr(fmt::format("href=\"http://{}.{}/\"", feature.port, name)));
}

TEST_F(ReverseTest, NoPageFromElsewhereOpensAWebsocket) {
  Server server([](int fd) { serve_each(fd, [](auto&, auto&) { return answer_with("no"); }); });
  start();
  route("box", {server.port});
  route("other", {server.port});
  const std::string port = std::to_string(proxy_->site().port);
  for (const std::string& origin :
       {std::string("http://evil.example"), std::string("null"), "https://" + host("box"), "http://" + host("other"),
        "http://localhost:" + port, std::string("http://localhost:3000"), "http://" + host("box") + ".evil.example",
        std::string("file://")}) {
    const auto answer = ask(upgrade(host("box"), fmt::format("Origin: {}\r\nConnection: close\r\n", origin)));
    EXPECT_EQ(status_of(answer), 403) << origin;
  }
  EXPECT_EQ(status_of(ask(upgrade(host("box"),
                                  fmt::format("Origin: http://{}\r\nOrigin: http://evil.example\r\n", host("box"))))),
            400);
  EXPECT_EQ(server.accepted, 0);
  // Its own pages, on any of its ports, and programs that send none.
  for (const auto& more : {fmt::format("Origin: http://{}\r\n", host("box")),
                           fmt::format("Origin: http://{}\r\n", host(1234)), std::string()})
    EXPECT_EQ(status_of(ask(upgrade(host("box"), more + "Connection: close\r\n"))), 200) << more;
}

TEST_F(ReverseTest, EachStateHasItsPage) {
  start();
  route("quiet", {});
  proxy_->routes().change([](Routes& all) {
    all["off"] = {.state_text = "stopped", .command = "agentvm start /home/me/off"};
    all["boots"] = {.state = SandboxRoute::State::starting, .state_text = "starting"};
    all["broken"] = {.state_text = "failed", .message = "no <b>space</b>\x1b[31m", .command = "agentvm start"};
  });
  const auto off = get(host("off"));
  EXPECT_EQ(status_of(off), 503);
  EXPECT_THAT(off, AllOf(HasSubstr("off is stopped"), HasSubstr("agentvm start /home/me/off"), HasSubstr("text/html"),
                         HasSubstr("frame-ancestors 'none'"), Not(HasSubstr("refresh"))));
  const auto boots = get(host("boots"));
  EXPECT_EQ(status_of(boots), 503);
  EXPECT_THAT(boots, AllOf(HasSubstr("Retry-After: 2"), HasSubstr("http-equiv=\"refresh\"")));
  EXPECT_THAT(get(host("broken")), AllOf(HasSubstr("&lt;b&gt;space"), Not(HasSubstr("<b>")), Not(HasSubstr("\x1b"))));
  EXPECT_THAT(get(host("quiet")), AllOf(HasSubstr("HTTP/1.1 503"), HasSubstr("Nothing listens in quiet yet")));
  EXPECT_THAT(get(host(3000, "quiet")), HasSubstr("Nothing listens on port 3000"));
  EXPECT_THAT(get(host("nobody")), AllOf(HasSubstr("HTTP/1.1 421"), HasSubstr("no sandbox named nobody")));
  const auto head = ask(fmt::format("HEAD / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", host("off")));
  EXPECT_TRUE(head.ends_with("\r\n\r\n"));
  const auto json = get(host("off"), "/", "Accept: application/json\r\n");
  const auto error = parse_json(json.substr(json.find("\r\n\r\n") + 4), "error");
  EXPECT_EQ(error.at("schema"), "agentvm.error/1");
  EXPECT_EQ(error.at("hint"), "agentvm start /home/me/off");
}

TEST_F(ReverseTest, TheIndexListsWhatThereIs) {
  waiting_ = {{"box", {"example.org", "<b>.example"}}, {"quiet", {"example.net"}}};
  start();
  route("box", {3000, 8000});
  route("quiet", {});
  const std::string index = fmt::format("localhost:{}", proxy_->site().port);
  proxy_->routes().change([](Routes& all) {
    all["box"].ports[0].process = "<script>\x1b]0;x\x07";
    all["off"] = {.state_text = "stopped", .command = "agentvm start /p"};
  });
  const auto page = get(index);
  EXPECT_EQ(status_of(page), 200);
  EXPECT_THAT(page, AllOf(HasSubstr("href=\"http://3000." + host("box") + "/\""), HasSubstr("agentvm start /p"),
                          Not(HasSubstr("<script>")), Not(HasSubstr("\x1b"))));
  const auto json = get(index, "/?x", "Accept: application/json\r\n");
  const auto list = parse_json(json.substr(json.find("\r\n\r\n") + 4), "index");
  EXPECT_EQ(list.at("sandboxes").size(), 3u);
  EXPECT_EQ(list.at("sandboxes")[0].at("ports")[0].at("primary"), true);
  EXPECT_THAT(page, AllOf(HasSubstr("<code>agentvm egress allow box example.org</code>"),
                          HasSubstr("&lt;b&gt;.example"), Not(HasSubstr("<b>"))));
  EXPECT_EQ(list.at("sandboxes")[0].at("egress_waiting"),
            parse_json(R"([{"rule": "example.org"}, {"rule": "<b>.example"}])", "questions"));
  EXPECT_EQ(list.at("sandboxes")[1].at("egress_waiting"), Json::array());
  EXPECT_THAT(page, HasSubstr("nothing listens<p>Waits for you to decide about example.net"));
  EXPECT_EQ(status_of(get(index, "/favicon.ico")), 404);
}

TEST_F(ReverseTest, AChangeIsSeenByTheNextRequestOnTheSameConnection) {
  Server one([](int fd) { serve_each(fd, [](auto&, auto&) { return answer_with("one"); }); });
  Server two([](int fd) { serve_each(fd, [](auto&, auto&) { return answer_with("two"); }); });
  start();
  route("box", {one.port});
  const UniqueFd client = dial();
  const auto request = fmt::format("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", host("box"));
  const auto next = [&] {
    write_all(client.get(), request, soon());
    const auto head = read_head(client.get());
    const auto at = head.find("Content-Length: ");
    return std::to_string(status_of(head)) + read_exactly(client.get(), std::stoul(head.substr(at + 16)));
  };
  EXPECT_EQ(next(), "200one");
  route("box", {two.port});
  EXPECT_EQ(next(), "200two");
  proxy_->routes().change([](Routes& all) { all["box"] = {.state_text = "stopped"}; });
  EXPECT_TRUE(next().starts_with("503"));
  // Another machine under the same name and port: nothing is kept from the one before.
  route("box", {two.port}, 2);
  EXPECT_EQ(next(), "200two");
  EXPECT_EQ(two.accepted, 2);
}

TEST_F(ReverseTest, ListensOnTheLoopbackAddressAlone) {
  start();
  // 127.0.0.2 is this host too: only a socket that is bound to more than 127.0.0.1 answers there.
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(proxy_->site().port);
  address.sin_addr.s_addr = htonl(0x7f000002);
  EXPECT_NE(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(errno, ECONNREFUSED);
}

TEST_F(ReverseTest, SaysWhenItsPortIsTaken) {
  start();
  const auto found = test::error_of([&] {
    Options options;
    options.site.port = proxy_->site().port;
    const ReverseProxy again(std::move(options));
  });
  ASSERT_TRUE(found);
  EXPECT_EQ(found->code(), ErrorCode::host_lacks);
  EXPECT_THAT(found->message(), AllOf(HasSubstr(std::to_string(proxy_->site().port)), HasSubstr("taken")));
}

}  // namespace
}  // namespace agentvm::proxy
