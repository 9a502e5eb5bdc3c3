#include "proxy/reverse/pages.hpp"

#include <fmt/format.h>

#include "proxy/http/rewrite.hpp"
#include "vmm/base/json.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::proxy {
namespace {

constexpr std::size_t text_limit_bytes = 300;
constexpr unsigned soon_seconds = 2, index_seconds = 5;

constexpr std::string_view style =
    ":root{color-scheme:light dark}"
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:46rem;margin:12vh auto 4rem;padding:0 1.25rem}"
    "h1{font-size:1.5rem;line-height:1.25;overflow-wrap:anywhere}p{overflow-wrap:anywhere}"
    "pre{padding:.75rem 1rem;border:1px solid #8886;border-radius:.5rem;overflow-x:auto}"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.4rem .75rem .4rem 0;vertical-align:top;"
    "border-bottom:1px solid #8884}small{opacity:.75}";

/// Guest text, or what a browser sent, as a part of a page.
std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : clean_guest_text(text, Newlines::escape, text_limit_bytes)) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      case '\'':
        result += "&#39;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

std::string document(std::string_view title, unsigned refresh_seconds, std::string_view body) {
  const auto refresh =
      refresh_seconds > 0 ? fmt::format("<meta http-equiv=\"refresh\" content=\"{}\">", refresh_seconds) : "";
  return fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width,initial-scale=1\">{}<title>{}</title><style>{}</style></head>\n<body><main>{}"
      "</main></body></html>\n",
      refresh, title, style, body);
}

struct Notice {
  int status;
  std::string code, title, message, command;
  unsigned refresh_seconds = 0;
  std::string list = {};  ///< the address of the index, linked below the message
};

/// All texts are plain; they are escaped here and nowhere else.
Page notice_page(const Notice& notice) {
  const auto title = escaped(notice.title);
  auto body = fmt::format("<h1>{}</h1><p>{}</p>", title, escaped(notice.message));
  if (!notice.list.empty()) body += fmt::format("<p><a href=\"{0}\">{0}</a></p>", escaped(notice.list));
  if (!notice.command.empty()) body += fmt::format("<pre><code>{}</code></pre>", escaped(notice.command));
  if (notice.refresh_seconds > 0) body += "<p><small>This page looks again by itself.</small></p>";
  body += fmt::format("<p><small>agentvm, status {}</small></p>", notice.status);
  const Json json{{"schema", "agentvm.error/1"},
                  {"code", notice.code},
                  {"message", clean_guest_text(notice.title + ": " + notice.message, Newlines::escape, 1024)},
                  {"hint", notice.command},
                  {"status", notice.status}};
  return {notice.status, document(title, notice.refresh_seconds, body), dump_json(json) + "\n", notice.refresh_seconds};
}

std::string list_row(const std::string& name, const SandboxRoute& route, const Site& site,
                     const std::vector<std::string>& waiting) {
  std::string links;
  for (const auto& port : route.ports) {
    const auto url = site.url(name, port.number, port.worktree);
    links += fmt::format("<a href=\"{}\">{}</a> {}{}<br>", url, port.number, escaped(port.process),
                         port.number == route.primary ? " <small>(primary)</small>" : "");
  }
  const bool runs = route.state == SandboxRoute::State::running;
  std::string asked;
  for (const auto& host : waiting)
    asked += fmt::format("<p>Waits for you to decide about {0}:<br><code>agentvm egress allow {1} {0}</code></p>",
                         escaped(host), escaped(name));
  if (links.empty()) links = runs ? "nothing listens" : fmt::format("<code>{}</code>", escaped(route.command));
  const auto label = runs ? fmt::format("<a href=\"{}\">{}</a>", site.url(name), escaped(name)) : escaped(name);
  return fmt::format("<tr><th scope=\"row\">{}</th><td>{}</td><td>{}{}</td></tr>", label, escaped(route.state_text),
                     links, asked);
}

}  // namespace

std::string Page::head(bool as_json, bool keep_alive) const {
  const auto refresh = refresh_seconds > 0 && status == 503 ? fmt::format("Retry-After: {}\r\n", refresh_seconds) : "";
  const auto moved = location.empty() ? "" : fmt::format("Location: {}\r\n", location);
  // Nothing is to be stored: a browser would go on to https long after it was switched off.
  return fmt::format(
      "HTTP/1.1 {} {}\r\nContent-Type: {}; charset=utf-8\r\nContent-Length: {}\r\nCache-Control: no-store\r\n"
      "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
      "frame-ancestors 'none'\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n{}{}Connection: "
      "{}\r\n\r\n",
      status, http::reason_phrase(status), as_json ? "application/json" : "text/html",
      as_json ? json.size() : html.size(), refresh, moved, keep_alive ? "keep-alive" : "close");
}

bool wants_json(const http::Request& request) {
  const std::string* accept = http::find_field(request.fields, "Accept");
  return accept && accept->find("application/json") != accept->npos && accept->find("text/html") == accept->npos;
}

Page refused_page(const http::Fault& fault) {
  return notice_page({fault.status, "usage", "The request is refused", fault.reason, ""});
}

Page foreign_origin_page(const std::string& sandbox) {
  return notice_page({403, "usage", "A page from elsewhere may not connect here",
                      fmt::format("Only pages of the sandbox {} itself may open a websocket to it.", sandbox), ""});
}

Page unknown_page(const Site& site, const std::string& host) {
  const auto name = site.parse(host);
  if (name.kind == HostName::Kind::sandbox)
    return notice_page({421, "not_found", fmt::format("There is no sandbox named {}", name.sandbox),
                        "Those that there are stand on this page:", "agentvm list", 0, site.url()});
  return notice_page({421, "not_found", "This name is not served here",
                      fmt::format("{} is none of ours. A sandbox is at {} and its other ports at {}", host,
                                  site.url("NAME"), site.url("PORT.NAME")),
                      "agentvm ports"});
}

Page insecure_page(const Site& site, const http::Request& request, const RouteDecision& decision,
                   std::uint16_t same_port) {
  const bool reads = request.method == "GET" || request.method == "HEAD";
  if (!reads || decision.kind == RouteDecision::Kind::unknown)
    return notice_page({400, "usage", "This port speaks https", "The request came in plain http.", "agentvm ports"});
  // Our own writing of the name, and the path as it was parsed.
  const auto name = same_port == 0 ? site.parse(request.host) : site.parse_same_port(request.host, same_port);
  auto url =
      same_port == 0 ? site.url(name.sandbox, name.port, name.worktree) : site.same_port_url(name.sandbox, same_port);
  auto page = notice_page({308, "usage", "This is at https", "It is here:", "", 0, url});
  page.location = url + request.target.substr(1);
  return page;
}

Page other_name_page(const std::string& host, const std::string& name) {
  return notice_page({421, "usage", "This connection is another name's",
                      fmt::format("It was made for {}, and {} was asked of it.", name, host), ""});
}

Page not_running_page(const RouteDecision& decision) {
  const SandboxRoute& route = *decision.route;
  if (route.state == SandboxRoute::State::starting)
    return notice_page({503, "wrong_state", fmt::format("{} is starting", decision.sandbox),
                        "It will be here in a moment.", fmt::format("agentvm status {}", decision.sandbox),
                        soon_seconds});
  const auto why = route.message.empty() ? std::string("Its dev servers come back with it.") : route.message;
  return notice_page(
      {503, "wrong_state", fmt::format("{} is {}", decision.sandbox, route.state_text), why, route.command});
}

Page no_server_page(const RouteDecision& decision, const Site& site) {
  const bool others = !decision.route->ports.empty();
  const auto where = decision.worktree.empty()
                         ? decision.sandbox
                         : fmt::format("the work tree {} of {}", decision.worktree, decision.sandbox);
  const auto title = decision.port == 0 ? fmt::format("Nothing listens in {} yet", where)
                                        : fmt::format("Nothing listens on port {} in {}", decision.port, where);
  const auto* message =
      others ? "Its other ports stand on this page:" : "Start a server in the sandbox, on any address.";
  return notice_page({503, "wrong_state", title, message, fmt::format("agentvm ports {}", decision.sandbox),
                      soon_seconds, others ? site.url() : std::string()});
}

Page crowded_page(const RouteDecision& decision) {
  return notice_page({503, "operation_failed", fmt::format("Too many connections into {}", decision.sandbox),
                      "Close some pages and try again.", ""});
}

Page unreachable_page(const RouteDecision& decision, const std::string& problem) {
  return notice_page({502, "operation_failed",
                      fmt::format("Port {} of {} does not answer", decision.port, decision.sandbox), problem,
                      fmt::format("agentvm ports {}", decision.sandbox)});
}

Page bad_answer_page(const RouteDecision& decision, const std::string& problem) {
  return notice_page({502, "operation_failed",
                      fmt::format("The server on port {} of {} gave no proper answer", decision.port, decision.sandbox),
                      problem, ""});
}

Page timeout_page(const RouteDecision& decision) {
  return notice_page({504, "timed_out", fmt::format("Port {} of {} took too long", decision.port, decision.sandbox),
                      "The guest did not take the connection in time.",
                      fmt::format("agentvm status {}", decision.sandbox)});
}

Page index_page(const Routes& routes, const Site& site, std::string_view target,
                const std::function<std::vector<std::string>(const std::string& sandbox)>& waiting) {
  if (target.substr(0, target.find('?')) != "/")
    return notice_page({404, "not_found", "There is no such page", "The list is this one:", "", 0, site.url()});
  std::string rows;
  Json list = Json::array();
  for (const auto& [name, route] : routes) {
    const auto asked = waiting ? waiting(name) : std::vector<std::string>();
    rows += list_row(name, route, site, asked);
    Json questions = Json::array();
    for (const auto& host : asked)
      questions.push_back({{"rule", clean_guest_text(host, Newlines::escape, text_limit_bytes)}});
    Json ports = Json::array();
    for (const auto& port : route.ports)
      ports.push_back({{"port", port.number},
                       {"process", clean_guest_text(port.process, Newlines::escape, text_limit_bytes)},
                       {"url", site.url(name, port.number, port.worktree)},
                       {"primary", port.number == route.primary}});
    list.push_back({{"name", name},
                    {"state", route.state_text},
                    {"url", site.url(name)},
                    {"ports", ports},
                    {"egress_waiting", std::move(questions)}});
  }
  const auto body =
      rows.empty() ? std::string("<h1>Sandboxes</h1><p>There is none yet.</p><pre><code>agentvm start</code></pre>")
                   : fmt::format(
                         "<h1>Sandboxes</h1><table><thead><tr><th scope=\"col\">Name</th><th scope=\"col\">"
                         "State</th><th scope=\"col\">Ports</th></tr></thead><tbody>{}</tbody></table>",
                         rows);
  return {200, document("Sandboxes - agentvm", index_seconds, body),
          dump_json({{"schema", "agentvm.index/1"}, {"sandboxes", list}}) + "\n", index_seconds};
}

}  // namespace agentvm::proxy
