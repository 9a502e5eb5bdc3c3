#pragma once
// What the proxy itself says: small pages for people, the error object for programs. Pure.

#include <functional>
#include <string>
#include <vector>

#include "proxy/http/head.hpp"
#include "proxy/route/routes.hpp"

namespace agentvm::proxy {

struct Page {
  int status = 200;
  std::string html, json;
  unsigned refresh_seconds = 0;  ///< 0: stays as it is
  std::string location = {};     ///< where it is instead

  /// Status line and headers for one of both bodies.
  std::string head(bool as_json, bool keep_alive) const;
};

/// Whether the request prefers JSON: Accept names it, and not HTML.
bool wants_json(const http::Request& request);

Page refused_page(const http::Fault& fault);                   ///< 400 and the like
Page foreign_origin_page(const std::string& sandbox);          ///< 403
Page unknown_page(const Site& site, const std::string& host);  ///< 421
/// 308 to the address with https, for what a browser asks of a name of ours; else 400. `same_port` as with `decide`.
Page insecure_page(const Site& site, const http::Request& request, const RouteDecision& decision,
                   std::uint16_t same_port);
Page other_name_page(const std::string& host, const std::string& name);            ///< 421
Page not_running_page(const RouteDecision& decision);                              ///< 503
Page no_server_page(const RouteDecision& decision, const Site& site);              ///< 503
Page crowded_page(const RouteDecision& decision);                                  ///< 503
Page unreachable_page(const RouteDecision& decision, const std::string& problem);  ///< 502
Page bad_answer_page(const RouteDecision& decision, const std::string& problem);   ///< 502
Page timeout_page(const RouteDecision& decision);                                  ///< 504
/// Every sandbox and port, and what each waits for (`Options::waiting`); 404 for another path than "/".
Page index_page(const Routes& routes, const Site& site, std::string_view target,
                const std::function<std::vector<std::string>(const std::string& sandbox)>& waiting);

}  // namespace agentvm::proxy
