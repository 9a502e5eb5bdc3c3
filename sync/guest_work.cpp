#include "sync/guest_work.hpp"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sync/host_git.hpp"
#include "sync/refs.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::sync {
namespace {

constexpr std::size_t out_limit_bytes = 256u << 10, err_limit_bytes = 16u << 10;
constexpr std::size_t path_limit_bytes = 4096;
constexpr std::uint64_t reported_limit = 1'000'000'000;

/// Both scripts: $1 is the repository. Work trees with control characters in their path are passed over.
/// $2: "count" for the changed files, too; the rest: commits that the host has. Few programs: under emulation each
/// costs.
constexpr const char* survey_script = R"sh(
export LC_ALL=C GIT_OPTIONAL_LOCKS=0
cd "$1" && git rev-parse --git-dir >/dev/null || exit 1
count=$2
shift 2
known=" $* "
row() (
  case $path in *[[:cntrl:]]*) exit 0 ;; esac
  cd "$path" 2>/dev/null || exit 0
  pending=0 changed=0
  case $tip in
    0000000000000000000000000000000000000000) tip=- ;;
    *) case $known in *" $tip "*) ;; *) pending=$(git rev-list --count --ignore-missing "$tip" --not "$@") || pending=0 ;; esac ;;
  esac
  [ "$count" != count ] || changed=$(git -c core.fsmonitor=false status --porcelain --untracked-files=all | wc -l)
  printf 'tree\t%s\t%s\t%s\t%s\t%s\n' "$tip" "$branch" "$pending" "$((changed))" "$path"
)
git worktree list --porcelain | {
  number=0
  while IFS= read -r line; do
    case $line in
      'worktree '*) path=${line#worktree } tip=- branch=- ;;
      'HEAD '*) tip=${line#HEAD } ;;
      'branch '*) branch=${line#branch } ;;
      '') number=$((number + 1)); [ "$number" -gt 64 ] || row "$@" </dev/null ;;
    esac
  done
}
echo end
)sh";

/// Repositories inside the work tree are no part of it: as entries they would name commits that nobody has.
constexpr const char* snapshot_script = R"sh(
export LC_ALL=C GIT_OPTIONAL_LOCKS=0
cd "$1" && objects=$(cd "$(git rev-parse --git-path objects)" && pwd) || exit 1
store=$2
rm -rf "$store"
umask 077
git init -q --bare --template= "$store" && mkdir -p "$store/objects/info" &&
  printf '%s\n' "$objects" >"$store/objects/info/alternates" || exit 1
export GIT_AUTHOR_NAME=agentvm GIT_AUTHOR_EMAIL=agentvm@localhost
export GIT_COMMITTER_NAME=agentvm GIT_COMMITTER_EMAIL=agentvm@localhost
quick() { git -c core.fsmonitor=false -c core.splitIndex=false -c advice.addEmbeddedRepo=false "$@"; }
snapshot() (
  case $1 in *[[:cntrl:]]*) exit 0 ;; esac
  cd "$1" 2>/dev/null || exit 0
  head=$(git rev-parse -q --verify 'HEAD^{commit}') || head=-
  branch=$(git symbolic-ref -q HEAD) || branch=-
  index=$(git rev-parse --git-path index)
  export GIT_INDEX_FILE="$store/agentvm-index"
  rm -f "$GIT_INDEX_FILE"
  # With its time: git compares it with those of files to see changes within the same tick.
  [ ! -f "$index" ] || cp -p "$index" "$GIT_INDEX_FILE"
  export GIT_OBJECT_DIRECTORY="$store/objects"
  state=whole
  quick add -A --ignore-errors || state=partial
  base=$head
  [ "$head" != - ] || base=$(git hash-object -t tree -w /dev/null)
  quick diff-index --cached -z --raw --no-renames --diff-filter=A "$base" |
    sed -z -n '/^:000000 160000 /{n;s/^/0 0000000000000000000000000000000000000000\t/;p}' |
    quick update-index -z --index-info
  tree=$(quick write-tree) || { printf 'work\t%s\t-\t-\t%s\t%s\tfailed\t%s\n' "$2" "$head" "$branch" "$1"; exit 0; }
  commit=-
  if [ "$tree" != "$(git rev-parse "$base^{tree}")" ]; then
    parent=
    [ "$head" = - ] || parent="-p $head"
    commit=$(echo "Uncommitted work on ${branch#refs/heads/}" | git commit-tree "$tree" $parent) &&
      git --git-dir="$store" update-ref "refs/heads/$2" "$commit" || { commit=-; state=failed; }
  fi
  printf 'work\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$2" "$commit" "$tree" "$head" "$branch" "$state" "$1"
)
number=0
git worktree list --porcelain | sed -n 's/^worktree //p' | head -n 64 | while IFS= read -r path; do
  snapshot "$path" "$number" </dev/null
  number=$((number + 1))
done
rm -f "$store/agentvm-index"
[ -n "$(git --git-dir="$store" for-each-ref)" ] || rm -rf "$store"
echo end
)sh";

[[noreturn]] void other_form() {
  throw Error(ErrorCode::operation_failed, "the guest told of its work trees in an unknown form");
}

/// Rows of tab-separated fields; the last field is the rest of its line. The row "end" says that nothing is missing.
std::vector<std::vector<std::string>> parse_rows(std::string_view text, std::string_view kind, std::size_t fields) {
  std::vector<std::vector<std::string>> rows;
  bool ended = false;
  for (const auto& line : split_lines(text)) {
    if (ended) other_form();
    if ((ended = line == "end")) continue;
    std::vector<std::string> row;
    std::size_t start = 0;
    while (row.size() + 1 < fields) {
      const auto tab = line.find('\t', start);
      if (tab == std::string::npos) other_form();
      row.push_back(line.substr(start, tab - start));
      start = tab + 1;
    }
    row.push_back(line.substr(start));
    if (row.front() != kind) other_form();
    rows.push_back(std::move(row));
  }
  if (!ended || rows.size() > worktrees_limit) other_form();
  return rows;
}

std::string oid_or_none(const std::string& text) {
  if (text == "-") return {};
  if (!is_oid(text)) other_form();
  return text;
}

std::uint64_t number_of(const std::string& text) {
  std::uint64_t value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc() || end != text.data() + text.size() || value > reported_limit) other_form();
  return value;
}

GuestWorktree worktree_of(const std::string& tip, const std::string& branch, const std::string& path) {
  GuestWorktree worktree;
  worktree.tip = oid_or_none(tip);
  if (branch != "-") {
    if (!branch.starts_with(branch_prefix) || refname_problem(branch)) other_form();
    worktree.branch = branch.substr(branch_prefix.size());
  }
  const bool controls =
      std::any_of(path.begin(), path.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
  if (!path.starts_with('/') || path.size() > path_limit_bytes || controls) other_form();
  worktree.path = path;
  return worktree;
}

std::vector<std::string> script(const char* text, std::vector<std::string> arguments) {
  std::vector<std::string> argv = {"sh", "-c", text, "sh"};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return argv;
}

void expect_success(const GuestAnswer& answer, std::string_view what) {
  if (answer.code != 0)
    throw Error(ErrorCode::operation_failed,
                fmt::format("{} in the guest: {}", what,
                            answer.err.empty() ? fmt::format("status {}", answer.code)
                                               : clean_guest_text(answer.err, Newlines::escape, 400)));
}

}  // namespace

GuestAnswer run_in_guest(guest::Streams& streams, std::vector<std::string> argv, Deadline deadline) {
  const auto process = streams.exec({.argv = std::move(argv), .env = {}, .workdir = "/"}, deadline);
  auto io = process->take_io(), err = process->take_err();
  ::shutdown(io.get(), SHUT_WR);
  GuestAnswer answer;
  // Both at once: a program that waits for one of them to be read says nothing on the other.
  const auto drain = [](UniqueFd& fd, std::string& into, std::size_t limit) {
    char buffer[16384];
    const ssize_t count = ::read(fd.get(), buffer, sizeof buffer);
    if (count > 0)
      into.append(buffer, std::min(static_cast<std::size_t>(count), limit - std::min(limit, into.size())));
    else if (count == 0 || (errno != EINTR && errno != EAGAIN))
      fd.reset();
  };
  while (io || err) {
    pollfd entries[2] = {{io.get(), POLLIN, 0}, {err.get(), POLLIN, 0}};
    const int ready = ::poll(entries, 2, deadline.poll_timeout());
    if (ready < 0 && errno != EINTR) throw_errno("poll");
    if (ready <= 0 && deadline.expired())
      throw Error(ErrorCode::timed_out, "the guest did not answer in time", "agentvm status");
    if (ready <= 0) continue;
    if (entries[0].revents) drain(io, answer.out, out_limit_bytes);
    if (entries[1].revents) drain(err, answer.err, err_limit_bytes);
  }
  const auto status = process->wait(deadline);
  if (!status) throw Error(ErrorCode::timed_out, "the guest did not answer in time", "agentvm status");
  if (status->kind == guest::GuestStatus::Kind::lost)
    throw Error(ErrorCode::operation_failed, "the connection to the guest was lost");
  answer.code = status->kind == guest::GuestStatus::Kind::exited ? status->code : 128;
  return answer;
}

std::vector<GuestWorktree> parse_survey(std::string_view text) {
  std::vector<GuestWorktree> worktrees;
  for (const auto& row : parse_rows(text, "tree", 6)) {
    auto worktree = worktree_of(row[1], row[2], row[5]);
    worktree.pending = number_of(row[3]);
    worktree.changed = number_of(row[4]);
    worktrees.push_back(std::move(worktree));
  }
  return worktrees;
}

std::vector<GuestSnapshot> parse_snapshots(std::string_view text) {
  std::vector<GuestSnapshot> snapshots;
  for (const auto& row : parse_rows(text, "work", 8)) {
    GuestSnapshot snapshot{worktree_of(row[4], row[5], row[7]), static_cast<std::size_t>(number_of(row[1])),
                           oid_or_none(row[2]), oid_or_none(row[3]), row[6] == "whole"};
    const bool known = snapshot.whole || row[6] == "partial" || row[6] == "failed";
    const bool rising = snapshots.empty() || snapshots.back().number < snapshot.number;
    if (!known || !rising || snapshot.number >= worktrees_limit || (!snapshot.commit.empty() && snapshot.tree.empty()))
      other_form();
    snapshots.push_back(std::move(snapshot));
  }
  return snapshots;
}

std::vector<GuestWorktree> survey_worktrees(guest::Streams& streams, const std::string& guest_path,
                                            const std::vector<std::string>& known, Survey what, Deadline deadline) {
  std::vector<std::string> arguments = {guest_path, what == Survey::with_changes ? "count" : "-"};
  arguments.insert(arguments.end(), known.begin(), known.end());
  const auto answer = run_in_guest(streams, script(survey_script, std::move(arguments)), deadline);
  expect_success(answer, "work trees could not be listed");
  return parse_survey(answer.out);
}

std::vector<GuestSnapshot> snapshot_worktrees(guest::Streams& streams, const std::string& guest_path,
                                              const std::string& store, std::vector<std::string>& warnings,
                                              Deadline deadline) {
  const auto answer = run_in_guest(streams, script(snapshot_script, {guest_path, store}), deadline);
  expect_success(answer, "uncommitted work could not be collected");
  auto snapshots = parse_snapshots(answer.out);
  for (const auto& snapshot : snapshots)
    if (!snapshot.whole)
      warnings.push_back(fmt::format("not all of {} could be collected: {}", clean_guest_text(snapshot.worktree.path),
                                     clean_guest_text(answer.err, Newlines::escape, 300)));
  return snapshots;
}

}  // namespace agentvm::sync
