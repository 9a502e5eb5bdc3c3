#include "sync/outcome.hpp"

#include <fmt/format.h>

#include "vmm/base/text.hpp"

namespace agentvm::sync {
namespace {

std::string clean(const std::string& text) {
  return clean_guest_text(text, Newlines::escape, 500);
}
std::string clean_excerpt(const std::string& text) {
  return clean_guest_text(text, Newlines::keep, 600);
}
std::string brief(const std::string& oid) {
  return oid.substr(0, 10);
}
std::string plural(std::uint64_t count, std::string_view word) {
  return fmt::format("{} {}{}", count, word, count == 1 ? "" : "s");
}

std::string headline(const SyncOutcome& outcome) {
  const auto branch = clean(outcome.branch);
  const auto range =
      outcome.old_tip.empty() ? brief(outcome.new_tip) : brief(outcome.old_tip) + ".." + brief(outcome.new_tip);
  const auto size = fmt::format("{}, {} changed, +{} -{}", plural(outcome.commits, "commit"),
                                plural(outcome.files_changed, "file"), outcome.insertions, outcome.deletions);
  switch (outcome.result) {
    case Result::updated:
      if (outcome.moved && !outcome.switched_from.empty())
        return fmt::format("switched from {} to {} {} ({})", clean(outcome.switched_from), branch, range, size);
      if (outcome.moved) return fmt::format("updated {} {} ({})", branch, range, size);
      if (outcome.dry_run) return fmt::format("would update {} {} ({})", branch, range, size);
      return fmt::format("received {} {} ({}); your branch did not move: {}", branch, range, size, outcome.reason);
    case Result::up_to_date:
      return outcome.reason.empty() || outcome.reason == "nothing new" ? "up to date" : "up to date: " + outcome.reason;
    case Result::gated:
      return fmt::format("gated: {} {} ({}): {}", branch, range, size, outcome.reason);
    case Result::diverged:
      return fmt::format("diverged: {} {} ({}): {}", branch, range, size, outcome.reason);
    case Result::conflict:
      return fmt::format("conflict: {} {} ({}): {}", branch, range, size, outcome.reason);
    case Result::dirty:
      return fmt::format("not merged: {} {} ({}): {}", branch, range, size, outcome.reason);
  }
  return {};
}

Json pushed_json(const std::optional<Pushed>& pushed) {
  if (!pushed) return nullptr;
  return {{"branch", pushed->branch},   {"old_tip", pushed->old_tip}, {"new_tip", pushed->new_tip},
          {"commits", pushed->commits}, {"done", pushed->done},       {"refusal", clean(pushed->refusal)}};
}

std::string pushed_text(const Pushed& pushed, bool dry_run) {
  const auto what = plural(pushed.commits, "commit") + " of yours";
  const auto where = pushed.old_tip.empty() ? fmt::format("the new branch {} of the sandbox ({})", clean(pushed.branch),
                                                          brief(pushed.new_tip))
                                            : fmt::format("the sandbox's {} ({}..{})", clean(pushed.branch),
                                                          brief(pushed.old_tip), brief(pushed.new_tip));
  if (pushed.done) return fmt::format("  sent {} to {}\n", what, where);
  if (dry_run) return fmt::format("  would send {} to {}\n", what, where);
  return fmt::format("  {} did not go to {}: {}\n", what, where, clean(pushed.refusal));
}

Json apart_json(const std::vector<ApartBranch>& apart) {
  auto list = Json::array();
  for (const auto& branch : apart) {
    Json conflicts = nullptr;
    if (branch.conflicts) conflicts = Json::array();
    for (const auto& path : branch.conflicts.value_or(std::vector<std::string>{})) conflicts.push_back(clean(path));
    list.push_back({{"branch", branch.branch},
                    {"standing", std::string(to_string(branch.standing))},
                    {"tip", branch.tip},
                    {"sandbox_tip", branch.guest_tip},
                    {"commits", branch.commits},
                    {"conflicts", conflicts}});
  }
  return list;
}

}  // namespace

std::string_view to_string(Standing standing) {
  switch (standing) {
    case Standing::missing:
      return "missing";
    case Standing::removed:
      return "removed";
    case Standing::behind:
      return "behind";
    case Standing::diverged:
      return "diverged";
    case Standing::different:
      return "different";
  }
  return "different";
}

std::string_view to_string(Result result) {
  switch (result) {
    case Result::updated:
      return "updated";
    case Result::up_to_date:
      return "up-to-date";
    case Result::gated:
      return "gated";
    case Result::diverged:
      return "diverged";
    case Result::conflict:
      return "conflict";
    case Result::dirty:
      return "dirty";
  }
  return "updated";
}

int SyncOutcome::exit_code() const {
  return result == Result::updated || result == Result::up_to_date ? 0 : agentvm::exit_code(ErrorCode::decision_needed);
}

Json gated_json(const std::vector<GatedPath>& gated) {
  auto list = Json::array();
  for (const auto& path : gated)
    list.push_back({{"path", clean(path.path)}, {"kind", path.kind}, {"excerpt", clean_excerpt(path.excerpt)}});
  return list;
}

Json to_json(const SyncOutcome& outcome) {
  Json refs = Json::array(), rejected = Json::array(), log = Json::array(), conflicts = Json::array();
  for (const auto& path : outcome.conflicts) conflicts.push_back(clean(path));
  for (const auto& change : outcome.refs)
    refs.push_back({{"name", change.ref},
                    {"branch", change.branch},
                    {"tag", change.branch.empty()},
                    {"old", change.old_tip},
                    {"new", change.new_tip},
                    {"kept_as", change.kept_as}});
  for (const auto& ref : outcome.rejected)
    rejected.push_back({{"ref", clean(ref.name)}, {"reason", clean(ref.reason)}});
  for (const auto& commit : outcome.log) log.push_back({{"id", commit.id}, {"subject", clean(commit.subject)}});
  return {{"schema", "agentvm.sync/1"},
          {"sandbox", outcome.sandbox},
          {"result", std::string(to_string(outcome.result))},
          {"dry_run", outcome.dry_run},
          {"moved", outcome.moved},
          {"branch", outcome.branch},
          {"old_tip", outcome.old_tip},
          {"new_tip", outcome.new_tip},
          {"commits", outcome.commits},
          {"files_changed", outcome.files_changed},
          {"insertions", outcome.insertions},
          {"deletions", outcome.deletions},
          {"log", log},
          {"refs", refs},
          {"rejected", rejected},
          {"gone", outcome.gone},
          {"gated", gated_json(outcome.gated)},
          {"gated_count", outcome.gated_count},
          {"conflicts", conflicts},
          {"rescued", outcome.rescued},
          {"switched_from", outcome.switched_from},
          {"pushed", pushed_json(outcome.pushed)},
          {"apart", apart_json(outcome.apart)},
          {"reason", outcome.reason},
          {"commands", outcome.commands},
          {"objects", outcome.objects},
          {"bytes", outcome.bytes}};
}

std::string to_text(const SyncOutcome& outcome) {
  std::string text = headline(outcome) + "\n";
  for (const auto& commit : outcome.log) text += fmt::format("  {} {}\n", commit.id, clean(commit.subject));
  if (outcome.log.size() < outcome.commits && !outcome.log.empty())
    text += fmt::format("  ... and {} more\n", outcome.commits - outcome.log.size());
  for (const auto& change : outcome.refs) {
    text +=
        fmt::format("  {} {} {}\n", outcome.dry_run ? "would set" : "set", clean(change.ref), brief(change.new_tip));
    if (!change.kept_as.empty())
      text += fmt::format("    the branch was rewritten; its old tip {} as {}\n",
                          outcome.dry_run ? "would be kept" : "is kept", clean(change.kept_as));
  }
  for (const auto& ref : outcome.rejected)
    text += fmt::format("  rejected {}: it {}\n", clean(ref.name), clean(ref.reason));
  for (const auto& path : outcome.gated) {
    text += fmt::format("  {}: {}\n", path.kind, clean(path.path));
    for (std::size_t start = 0; start < path.excerpt.size();) {
      const auto end = std::min(path.excerpt.find('\n', start), path.excerpt.size());
      text += fmt::format("      {}\n", clean(path.excerpt.substr(start, end - start)));
      start = end + 1;
    }
  }
  if (outcome.gated_count > outcome.gated.size())
    text += fmt::format("  ... and {} more\n", outcome.gated_count - outcome.gated.size());
  for (const auto& path : outcome.conflicts)
    text +=
        fmt::format("  {}: {}\n", outcome.result == Result::conflict ? "would conflict" : "in the way", clean(path));
  if (outcome.pushed) text += pushed_text(*outcome.pushed, outcome.dry_run);
  for (const auto& branch : outcome.gone)
    text += fmt::format("  no more in the sandbox: {}; {} stays\n", clean(branch),
                        clean(mirror_ref(outcome.sandbox, branch)));
  for (const auto& branch : outcome.apart) {
    text += fmt::format("  your {}: {} in the sandbox\n", clean(branch.branch), to_string(branch.standing));
    for (const auto& path : branch.conflicts.value_or(std::vector<std::string>{}))
      text += fmt::format("    would conflict: {}\n", clean(path));
  }
  for (std::size_t i = 0; i < outcome.commands.size(); ++i)
    text += fmt::format("{}{}\n", i == 0 ? "next:  " : "   or: ", outcome.commands[i]);
  return text;
}

}  // namespace agentvm::sync
