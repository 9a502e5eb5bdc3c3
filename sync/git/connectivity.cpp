#include <memory>

#include <fmt/format.h>

#include "sync/git/check.hpp"
#include "sync/git/object_rules.hpp"
#include "sync/git/objects.hpp"

namespace agentvm::git {
namespace {

constexpr std::size_t path_limit_bytes = 4095;  ///< PATH_MAX without its end

/// Changed files that need no new object each: moved and copied folders. A tree of a dozen objects can name milliards.
constexpr std::uint64_t repeated_paths_limit = 1'000'000;

/// Proves that everything below a tip is there.
class ConnectivityWalk {
 public:
  ConnectivityWalk(git_odb* odb, const std::vector<git_oid>& host_tips, std::uint64_t new_objects, Deadline deadline)
      : odb_(odb), proven_tips_(host_tips), deadline_(deadline), paths_limit_(repeated_paths_limit + 4 * new_objects) {
    git_repository* repository = nullptr;
    check_git(git_repository_wrap_odb(&repository, odb), "opening the object store");
    repository_.reset(repository);
  }

  /// Throws when anything is missing or has another type than its place demands.
  void prove(const git_oid& tip) {
    expect_type(tip, GIT_OBJECT_COMMIT);
    git_revwalk* raw = nullptr;
    check_git(git_revwalk_new(&raw, repository_.get()), "walking history");
    RevwalkHandle walk(raw);
    for (const auto& known : proven_tips_) check_git(git_revwalk_hide(raw, &known), "walking history");
    check_git(git_revwalk_push(raw, &tip), "walking history");
    git_oid oid;
    int result = 0;
    paths_ = 0;
    try {
      while ((result = git_revwalk_next(&oid, raw)) == 0) prove_commit(oid);
      if (result != GIT_ITEROVER) check_git(result, "walking history");
    } catch (...) {
      whole_.clear();  // what this walk saw may hang below something that is missing
      changed_.clear();
      blobs_.clear();
      throw;
    }
    proven_tips_.push_back(tip);
  }

 private:
  /// What a folder is, all of it: for one that no parent has at the same path.
  struct Extent {
    std::uint64_t paths = 0;        ///< files and folders below it that differ from the parents'
    std::size_t longest_bytes = 0;  ///< the longest path from here down
  };

  void expect_type(const git_oid& oid, git_object_t expected) {
    const auto header = find_header(odb_, oid);
    if (!header) throw Error(ErrorCode::operation_failed, fmt::format("object {} is missing", hex(oid)));
    if (header->type != expected)
      throw Error(ErrorCode::operation_failed,
                  fmt::format("object {} is a {} where a {} must be", hex(oid), git_object_type2string(header->type),
                              git_object_type2string(expected)));
  }

  static constexpr std::size_t known_limit = 8;
  static constexpr std::size_t recent_limit = 128, recent_limit_bytes = 8u << 20;

  CommitLinks links_of(const git_oid& oid) {
    const auto object = read_object(odb_, oid);
    if (git_odb_object_type(object.get()) != GIT_OBJECT_COMMIT)
      throw Error(ErrorCode::operation_failed, fmt::format("object {} is no commit", hex(oid)));
    return commit_links(content(object));
  }

  void prove_commit(const git_oid& oid) {
    check_time(deadline_);
    const auto links = links_of(oid);
    std::vector<git_oid> known;
    for (const auto& parent : links.parents) {
      // They only save work. Thousands of them (an octopus that was made for it) would multiply it.
      if (known.size() == known_limit) break;
      known.push_back(parse_oid(links_of(parse_oid(parent)).tree));
    }
    changed_.clear();
    count(prove_tree(parse_oid(links.tree), known, 0).paths);
  }

  void count(std::uint64_t paths) {
    if ((paths_ += paths) > paths_limit_)
      throw Error(ErrorCode::operation_failed,
                  fmt::format("its commits change more than {} files: folders that repeat themselves", paths_limit_));
  }

  /// `known`: trees at the same path in the parents, which are proven: what they share need not be looked at.
  /// Every folder is read once, however many paths lead to it.
  Extent prove_tree(const git_oid& tree, const std::vector<git_oid>& known, std::size_t path_bytes) {
    check_time(deadline_);
    for (const auto& other : known)
      if (git_oid_equal(&other, &tree)) return {};
    std::string key(reinterpret_cast<const char*>(tree.id), sizeof tree.id);
    for (const auto& other : known) key.append(reinterpret_cast<const char*>(other.id), sizeof other.id);
    auto& memory = known.empty() ? whole_ : changed_;
    const auto found = memory.find(key);
    const auto extent = found != memory.end() ? found->second : read_tree(tree, known, path_bytes);
    if (path_bytes + extent.longest_bytes > path_limit_bytes)
      throw Error(ErrorCode::operation_failed, "a path is longer than 4095 bytes");
    if (found == memory.end()) memory.emplace(std::move(key), extent);
    return extent;
  }

  Extent read_tree(const git_oid& tree, const std::vector<git_oid>& known, std::size_t path_bytes) {
    const auto parsed = parsed_tree(tree);
    auto entries = parsed->entries;
    std::vector<std::shared_ptr<const ParsedTree>> beside;
    for (const auto& other : known) {
      beside.push_back(parsed_tree(other));
      entries = entries_besides(beside.back()->entries, entries);
    }
    Extent extent;
    for (const auto& entry : entries) {
      if (entry.is_submodule()) continue;
      std::vector<git_oid> below;
      bool same = false;  // with another mode
      for (const auto& other : beside) {
        const auto* found = find_entry(other->entries, entry);
        if (!found || found->is_submodule()) continue;
        same = same || found->raw_oid == entry.raw_oid;
        if (entry.is_tree()) below.push_back(raw_oid(found->raw_oid));
      }
      if (same) continue;
      const auto oid = raw_oid(entry.raw_oid);
      // Bounds the recursion, too: a level takes two bytes at least.
      if (path_bytes + entry.name.size() > path_limit_bytes)
        throw Error(ErrorCode::operation_failed, "a path is longer than 4095 bytes");
      Extent inner;
      if (entry.is_tree())
        inner = prove_tree(oid, below, path_bytes + entry.name.size() + 1);
      else if (blobs_.insert(oid).second)
        expect_type(oid, GIT_OBJECT_BLOB);
      extent.paths = std::min(extent.paths + inner.paths + 1, std::uint64_t{1} << 62);
      extent.longest_bytes =
          std::max(extent.longest_bytes, entry.name.size() + (entry.is_tree() ? 1 : 0) + inner.longest_bytes);
    }
    return extent;
  }

  /// A folder is asked for twice, as its commit's and as what its child's is compared with: newest come first.
  std::shared_ptr<const ParsedTree> parsed_tree(const git_oid& oid) {
    if (const auto found = recent_.find(oid); found != recent_.end()) return found->second;
    if (recent_.size() >= recent_limit || recent_bytes_ >= recent_limit_bytes) {
      recent_.clear();
      recent_bytes_ = 0;
    }
    expect_type(oid, GIT_OBJECT_TREE);
    auto object = read_object(odb_, oid);
    auto entries = parse_tree(content(object));
    if (!entries) throw Error(ErrorCode::operation_failed, fmt::format("tree {} {}", hex(oid), malformed_tree));
    recent_bytes_ += content(object).size();
    auto parsed = std::make_shared<const ParsedTree>(ParsedTree{std::move(object), std::move(*entries)});
    recent_.emplace(oid, parsed);
    return parsed;
  }

  git_odb* odb_;
  std::vector<git_oid> proven_tips_;
  Deadline deadline_;
  RepositoryHandle repository_;
  OidMap<std::shared_ptr<const ParsedTree>> recent_;
  std::size_t recent_bytes_ = 0;
  std::unordered_map<std::string, Extent> whole_;    ///< folders read without a parent's beside it
  std::unordered_map<std::string, Extent> changed_;  ///< with; of one commit
  OidSet blobs_;
  std::uint64_t paths_ = 0, paths_limit_;
};

/// Through tags of tags. Throws when it leads elsewhere.
git_oid commit_of_tag(git_odb* odb, git_oid oid) {
  constexpr int nesting_limit = 5;
  for (int depth = 0; depth < nesting_limit; ++depth) {
    const auto header = find_header(odb, oid);
    if (!header) throw Error(ErrorCode::operation_failed, fmt::format("object {} is missing", hex(oid)));
    if (header->type == GIT_OBJECT_COMMIT) return oid;
    if (header->type != GIT_OBJECT_TAG || header->size > structure_limit_bytes)
      throw Error(ErrorCode::operation_failed, "it leads to no commit");
    const auto object = read_object(odb, oid);
    if (const auto problem = tag_problem(content(object)))
      throw Error(ErrorCode::operation_failed, fmt::format("tag {} {}", hex(oid), *problem));
    oid = parse_oid(tag_link(content(object)).object);
  }
  throw Error(ErrorCode::operation_failed, "it is a tag of a tag of a tag too often");
}

}  // namespace

void check_connectivity(git_odb* odb, const std::vector<git_oid>& host_tips, std::uint64_t new_objects,
                        sync::BranchSelection& selection, Deadline deadline) {
  OidSet host(host_tips.begin(), host_tips.end());
  ConnectivityWalk walk(odb, host_tips, new_objects, deadline);
  const auto sift = [&](std::map<std::string, std::string>& names, std::string_view prefix, auto commit_of) {
    for (auto entry = names.begin(); entry != names.end();) {
      try {
        const auto tip = commit_of(parse_oid(entry->second));
        if (!host.contains(tip)) walk.prove(tip);
        ++entry;
      } catch (const Error& error) {
        if (error.code() == ErrorCode::timed_out) throw;
        selection.rejected.push_back(
            {std::string(prefix) + entry->first, fmt::format("is not complete: {}", error.what())});
        entry = names.erase(entry);
      }
    }
  };
  sift(selection.branches, sync::branch_prefix, [](const git_oid& oid) { return oid; });
  sift(selection.tags, sync::tag_prefix, [odb](const git_oid& oid) { return commit_of_tag(odb, oid); });
}

}  // namespace agentvm::git
