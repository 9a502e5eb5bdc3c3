#include "sync/git/session.hpp"

#include <optional>
#include <set>

#include <fmt/format.h>

#include "sync/git/check.hpp"
#include "sync/git/fetch_client.hpp"
#include "sync/git/large_blocks.hpp"
#include "sync/git/loose_fetch.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::git {
namespace {

constexpr std::size_t haves_limit_bytes = 64u << 20;
constexpr std::uint64_t large_blocks_per_memory = 4;

Haves read_haves(const sync::FetchRequest& request) {
  Haves haves;
  haves.preferred = request.preferred_haves;
  const auto text = read_file(sync::haves_file, haves_limit_bytes);
  for (std::size_t start = 0; start + sync::oid_hex_length < text.size(); start += sync::oid_hex_length + 1)
    haves.tips.push_back(parse_oid(text.substr(start, sync::oid_hex_length)));
  return haves;
}

/// Takes out what the host has under the same name already.
void drop_known_tags(std::map<std::string, std::string>& tags) {
  const auto text = read_file(sync::tags_file, haves_limit_bytes);
  for (std::size_t start = 0; start < text.size();) {
    const auto end = std::min(text.find('\n', start), text.size());
    const auto line = text.substr(start, end - start);
    start = end + 1;
    if (line.size() < sync::oid_hex_length + 2) continue;
    const auto found = tags.find(line.substr(sync::oid_hex_length + 1));
    if (found != tags.end() && found->second == line.substr(0, sync::oid_hex_length)) tags.erase(found);
  }
}

/// Among the branches a HEAD that is on none of them is judged like them; no branch has that name (`select_branches`).
constexpr const char* head_name = "HEAD";

void add_detached_head(const Advertisement& advertisement, sync::BranchSelection& selection) {
  const auto tip = advertisement.head_tip();
  if (!tip.empty() && !selection.branches.contains(advertisement.head_branch()))
    selection.branches.emplace(head_name, tip);
}

void set_branches(sync::FetchVerdict& verdict, sync::BranchSelection& selection) {
  if (auto head = selection.branches.extract(head_name)) verdict.detached_head = head.mapped();
  verdict.branches = std::move(selection.branches);
  verdict.rejected = std::move(selection.rejected);
}

OdbHandle open_odb() {
  git_odb* raw = nullptr;
  check_git(git_odb_open(&raw, sync::objects_dir), "opening the quarantine");
  return OdbHandle(raw);
}

bool is_commit(git_odb* odb, const git_oid& oid) {
  std::size_t size = 0;
  git_object_t type = GIT_OBJECT_INVALID;
  return git_odb_read_header(&size, &type, odb, &oid) == 0 && type == GIT_OBJECT_COMMIT;
}

/// The tips that must come: those that the host lacks, and commits that it has without all they lead to. Objects that
/// nothing refers to lose their company when git prunes them, file by file. What is no commit does not become one.
std::set<std::string> missing_tips(git_odb* odb, const Haves& haves, const sync::BranchSelection& selection,
                                   Deadline deadline) {
  std::set<std::string> missing;
  for (const auto* names : {&selection.branches, &selection.tags})
    for (const auto& [name, tip] : *names)
      if (const auto oid = parse_oid(tip); !git_odb_exists(odb, &oid)) missing.insert(tip);
  sync::BranchSelection here;
  for (const auto& [name, tip] : selection.branches)
    if (!missing.contains(tip) && is_commit(odb, parse_oid(tip))) here.branches.emplace(name, tip);
  const auto present = here.branches;
  check_connectivity(odb, haves.tips, 0, here, deadline);
  for (const auto& [name, tip] : present)
    if (!here.branches.contains(name)) missing.insert(tip);
  return missing;
}

}  // namespace

void start_library(const sync::SyncLimits& limits) {
  constexpr std::size_t window_bytes = 32u << 20, mapped_bytes = 512u << 20;
  keep_large_blocks_on_disk(sync::objects_dir, large_blocks_per_memory * limits.memory);
  check_git(git_libgit2_init(), "starting libgit2");
  for (const int level :
       {GIT_CONFIG_LEVEL_PROGRAMDATA, GIT_CONFIG_LEVEL_SYSTEM, GIT_CONFIG_LEVEL_XDG, GIT_CONFIG_LEVEL_GLOBAL})
    check_git(git_libgit2_opts(GIT_OPT_SET_SEARCH_PATH, level, ""), "closing libgit2's configuration");
  git_libgit2_opts(GIT_OPT_SET_TEMPLATE_PATH, "");
  git_libgit2_opts(GIT_OPT_SET_MWINDOW_SIZE, window_bytes);
  git_libgit2_opts(GIT_OPT_SET_MWINDOW_MAPPED_LIMIT, mapped_bytes);
  git_libgit2_opts(GIT_OPT_ENABLE_STRICT_HASH_VERIFICATION, 0);  // `check_pack_objects` does that to what is new
  git_libgit2_opts(GIT_OPT_ENABLE_FSYNC_GITDIR, 0);              // the trusted step syncs what it takes
}

namespace {

ReceivedPack fetch_pack(PktStream& stream, const Advertisement& advertisement, const std::set<std::string>& wanted,
                        const Haves& haves, git_odb* odb, const sync::SyncLimits& limits) {
  std::vector<git_oid> wants;
  for (const auto& tip : wanted) wants.push_back(parse_oid(tip));
  negotiate(stream, advertisement, wants, haves, odb);
  return receive_pack(stream, advertisement, fmt::format("{}/pack", sync::objects_dir), odb, limits);
}

sync::FetchVerdict converse(const sync::FetchRequest& request, int in, int out) {
  const auto deadline = Deadline::after(std::chrono::seconds(request.limits.seconds));
  PktStream stream(in, out, request.limits.bytes, deadline);
  auto advertisement = read_advertisement(stream, request.limits.refs);
  if (!request.tags)
    std::erase_if(advertisement.refs, [](const auto& ref) { return ref.name.starts_with(sync::tag_prefix); });
  auto selection = sync::select_branches(advertisement.refs);
  if (request.detached_head) add_detached_head(advertisement, selection);
  sync::FetchVerdict verdict;
  verdict.head_branch = advertisement.head_branch();
  if (request.list_only) {
    say_goodbye(stream);
    verdict.bytes = stream.received_bytes();
    set_branches(verdict, selection);
    return verdict;
  }
  const auto haves = read_haves(request);
  drop_known_tags(selection.tags);
  auto odb = open_odb();
  const auto wanted = missing_tips(odb.get(), haves, selection, deadline);
  if (wanted.empty()) {
    say_goodbye(stream);
  } else {
    const std::string pack_dir = fmt::format("{}/pack", sync::objects_dir);
    const auto pack = request.loose ? fetch_loose(stream, wanted, pack_dir, odb.get(), request.limits)
                                    : fetch_pack(stream, advertisement, wanted, haves, odb.get(), request.limits);
    verdict.pack = pack.name;
    verdict.objects = pack.objects;
    odb = open_odb();  // with the pack in it
    check_pack_objects(fmt::format("{}/pack-{}.idx", pack_dir, pack.name), odb.get(), haves.tips, request.limits,
                       deadline);
  }
  verdict.bytes = stream.received_bytes();
  const auto rejected = selection.rejected.size();
  check_connectivity(odb.get(), haves.tips, verdict.objects, selection, deadline);
  if (request.loose && selection.rejected.size() > rejected)
    throw Error(ErrorCode::operation_failed, "loose objects do not do: something is missing");
  set_branches(verdict, selection);
  verdict.tags = std::move(selection.tags);
  return verdict;
}

}  // namespace

sync::FetchVerdict fetch(const sync::FetchRequest& request, int in, int out) {
  std::optional<sync::FetchVerdict> verdict;
  try {
    verdict = converse(request, in, out);
  } catch (const Error&) {
    if (!ran_out_of_memory()) throw;  // else libgit2 blames something else: "missing delta bases"
  }
  if (ran_out_of_memory())
    throw Error(ErrorCode::operation_failed,
                fmt::format("what the guest sent needs more memory than sync.limits.memory ({} bytes) allows",
                            request.limits.memory),
                "agentvm config show");
  return *verdict;
}

}  // namespace agentvm::git
