#include "proxy/egress/summary.hpp"

#include <algorithm>
#include <map>
#include <tuple>

#include "proxy/egress/refusal.hpp"

namespace agentvm::egress {

std::vector<SummaryRow> summarise(const std::vector<JournalEntry>& entries) {
  using Key = std::tuple<std::string, std::uint16_t, Decision::Kind, Cause, std::string>;
  std::map<Key, SummaryRow> rows;
  for (const auto& [event, decision] : entries) {
    if (event == JournalEntry::Event::held) continue;  // its end comes later
    auto& row = rows[{decision.host, decision.port, decision.kind, decision.cause, decision.rule}];
    const auto up = row.last.bytes_up + decision.bytes_up, down = row.last.bytes_down + decision.bytes_down;
    const auto requests = row.last.requests + decision.requests, tokens = row.last.tokens + decision.tokens;
    if (decision.time >= row.last.time) row.last = decision;
    row.last.requests = requests;
    row.last.tokens = tokens;
    row.last.bytes_up = up;
    row.last.bytes_down = down;
    // An allowed one was counted when it opened; one that was refused for what came through it never opened.
    if (event != JournalEntry::Event::end || row.count == 0) ++row.count;
  }
  std::vector<SummaryRow> result;
  for (auto& [key, row] : rows) result.push_back(std::move(row));
  std::stable_sort(result.begin(), result.end(),
                   [](const SummaryRow& a, const SummaryRow& b) { return a.last.time < b.last.time; });
  return result;
}

void add_history(CapLedger& caps, const std::vector<JournalEntry>& entries) {
  for (const auto& [event, decision] : entries) {
    // What opened is told whole at its end; until then it counts where it runs.
    if (event != JournalEntry::Event::end && event != JournalEntry::Event::whole) continue;
    const Taken taken{decision.requests, decision.bytes_up + decision.bytes_down, decision.tokens};
    if (const auto host = normal_host(decision.host)) caps.add({*host, decision.port}, taken, decision.time);
  }
}

std::vector<Suggestion> suggest(const std::vector<JournalEntry>& entries, const EgressPolicy& given) {
  std::map<std::string, Suggestion> found;
  for (const auto& row : summarise(entries)) {
    const auto& decision = row.last;
    const bool passed = decision.kind == Decision::Kind::allowed || decision.kind == Decision::Kind::failed;
    const bool missed = decision.kind == Decision::Kind::denied &&
                        (decision.cause == Cause::not_listed || decision.cause == Cause::other_port);
    const auto host = normal_host(decision.host);
    if ((!passed && !missed) || !host || decision.port == 0 || looks_numeric(*host)) continue;
    const auto verdict = given.decide(*host, decision.port);
    if (verdict.allowed || verdict.cause == Cause::denied_by_rule) continue;
    auto& suggestion = found[rule_text({*host, decision.port})];
    suggestion.rule = rule_text({*host, decision.port});
    (missed ? suggestion.denied : suggestion.allowed) += row.count;
  }
  std::vector<Suggestion> result;
  for (auto& [rule, suggestion] : found) result.push_back(std::move(suggestion));
  return result;
}

}  // namespace agentvm::egress
