#include "sync/git/check.hpp"

#include <cstring>
#include <unordered_map>
#include <unordered_set>

#include <fmt/format.h>

#include "sync/git/object_rules.hpp"

namespace agentvm::git {
namespace {

constexpr std::size_t structure_limit_bytes = 64u << 20;  ///< a commit, tag or tree: held in memory while it is read
constexpr std::size_t gitmodules_limit_bytes = 1u << 20;
constexpr std::size_t gitattributes_limit_bytes = 16u << 20;
constexpr std::size_t path_limit_bytes = 4095;  ///< PATH_MAX without its end

/// Changed files that need no new object each: moved and copied folders. A tree of a dozen objects can name milliards.
constexpr std::uint64_t repeated_paths_limit = 1'000'000;

struct OidHash {
  std::size_t operator()(const git_oid& oid) const {
    std::size_t value;
    std::memcpy(&value, oid.id, sizeof value);
    return value;
  }
};
struct OidEqual {
  bool operator()(const git_oid& a, const git_oid& b) const { return git_oid_equal(&a, &b); }
};
using OidMap = std::unordered_map<git_oid, git_object_t, OidHash, OidEqual>;
using OidSet = std::unordered_set<git_oid, OidHash, OidEqual>;

void check_time(Deadline deadline) {
  if (deadline.expired())
    throw Error(ErrorCode::timed_out, "checking what the guest sent took too long (sync.limits.seconds)");
}

ObjectHandle read_object(git_odb* odb, const git_oid& oid) {
  git_odb_object* raw = nullptr;
  check_git(git_odb_read(&raw, odb, &oid), "reading object " + hex(oid));
  return ObjectHandle(raw);
}

std::string_view content(const ObjectHandle& object) {
  return {static_cast<const char*>(git_odb_object_data(object.get())), git_odb_object_size(object.get())};
}

git_oid raw_oid(std::string_view bytes) {
  git_oid oid;
  git_oid_fromraw(&oid, reinterpret_cast<const unsigned char*>(bytes.data()));
  return oid;
}

[[noreturn]] void refuse(std::string_view kind, const git_oid& oid, const std::string& problem) {
  throw Error(ErrorCode::operation_failed, fmt::format("refused: {} {} from the sandbox {}", kind, hex(oid), problem));
}

/// Collects ids inside a C callback, where nothing may be thrown.
int collect(const git_oid* oid, void* payload) noexcept {
  try {
    static_cast<std::vector<git_oid>*>(payload)->push_back(*oid);
    return 0;
  } catch (...) {
    return -1;
  }
}

class PackChecker {
 public:
  PackChecker(const std::string& index_path, git_odb* everything, const std::vector<git_oid>& host_tips,
              const sync::SyncLimits& limits, Deadline deadline)
      : everything_(everything), host_tips_(host_tips), limits_(limits), deadline_(deadline) {
    git_odb* odb = nullptr;
    check_git(git_odb_new(&odb), "opening the pack");
    odb_.reset(odb);
    git_odb_backend* backend = nullptr;
    check_git(git_odb_backend_one_pack(&backend, index_path.c_str()), "opening the pack");
    check_git(git_odb_add_backend(odb, backend, 1), "opening the pack");
  }

  void run() {
    std::vector<git_oid> oids;
    check_git(git_odb_foreach(odb_.get(), collect, &oids), "listing the pack");
    std::uint64_t total = 0;
    for (std::size_t i = 0; i < oids.size(); ++i) {
      if (i % 256 == 0) check_time(deadline_);
      std::size_t size = 0;
      git_object_t type = GIT_OBJECT_INVALID;
      check_git(git_odb_read_header(&size, &type, odb_.get(), &oids[i]), "reading object " + hex(oids[i]));
      if (size > limits_.object_bytes)
        refuse("object", oids[i], fmt::format("is larger than {} bytes", limits_.object_bytes));
      if ((total += size) > limits_.expanded_bytes)
        throw Error(ErrorCode::operation_failed,
                    fmt::format("refused: the sandbox's objects unpack to more than {} bytes", limits_.expanded_bytes));
      types_.emplace(oids[i], type);
      if (type != GIT_OBJECT_BLOB) check_structure(oids[i], type, size);
    }
    for (const auto& [oid, expected] : links_) check_link(oid, expected);
    for (const auto& oid : gitmodules_) check_special(oid, ".gitmodules", gitmodules_limit_bytes, gitmodules_problem);
    for (const auto& oid : gitattributes_)
      check_special(oid, ".gitattributes", gitattributes_limit_bytes, gitattributes_problem);
  }

 private:
  void check_structure(const git_oid& oid, git_object_t type, std::size_t size) {
    if (size > structure_limit_bytes) refuse(git_object_type2string(type), oid, "is too large");
    const auto object = read_object(odb_.get(), oid);
    const auto text = content(object);
    const auto problem = type == GIT_OBJECT_TREE     ? tree_problem(text)
                         : type == GIT_OBJECT_COMMIT ? commit_problem(text)
                                                     : tag_problem(text);
    if (problem) refuse(git_object_type2string(type), oid, *problem);
    if (type == GIT_OBJECT_COMMIT) {
      const auto links = commit_links(text);
      expect(parse_oid(links.tree), GIT_OBJECT_TREE);
      for (const auto& parent : links.parents) expect(parse_oid(parent), GIT_OBJECT_COMMIT);
    } else if (type == GIT_OBJECT_TREE) {
      const auto entries = parse_tree(text);
      for (const auto& entry : *entries) {
        if (entry.is_submodule()) continue;
        expect(raw_oid(entry.raw_oid), entry.is_tree() ? GIT_OBJECT_TREE : GIT_OBJECT_BLOB);
        if (is_dotgitmodules(entry.name)) gitmodules_.insert(raw_oid(entry.raw_oid));
        if (is_dotgitattributes(entry.name) && !entry.is_symlink()) gitattributes_.insert(raw_oid(entry.raw_oid));
      }
    } else {
      const auto link = tag_link(text);
      expect(parse_oid(link.object), git_object_string2type(link.type.c_str()));
    }
  }

  void expect(const git_oid& oid, git_object_t type) {
    const auto [known, added] = links_.emplace(oid, type);
    if (!added && known->second != type) refuse("object", oid, "is named as two different kinds of object");
  }

  void check_link(const git_oid& oid, git_object_t expected) {
    git_object_t type = GIT_OBJECT_INVALID;
    if (const auto known = types_.find(oid); known != types_.end()) {
      type = known->second;
    } else {
      std::size_t size = 0;
      if (git_odb_read_header(&size, &type, everything_, &oid) < 0) refuse("object", oid, "is needed but was not sent");
    }
    if (type != expected)
      refuse(git_object_type2string(type), oid,
             fmt::format("stands where a {} must be", git_object_type2string(expected)));
  }

  /// Content that this guest sent earlier under a harmless name is at the host already: it is judged all the same.
  void check_special(const git_oid& oid, std::string_view name, std::size_t limit,
                     std::optional<std::string> (*problem_of)(std::string_view)) {
    std::size_t size = 0;
    git_object_t type = GIT_OBJECT_INVALID;
    check_git(git_odb_read_header(&size, &type, everything_, &oid), "reading object " + hex(oid));
    auto problem = size > limit ? std::optional(fmt::format("is a {} file that is too large", name))
                                : problem_of(content(read_object(everything_, oid)));
    if (problem && !types_.contains(oid) && host_has_it_as(oid, name)) return;
    if (problem) refuse("blob", oid, *problem);
  }

  /// Whether the user's own history has this very file at its root: then it is not the guest who brought it.
  bool host_has_it_as(const git_oid& oid, std::string_view name) {
    for (const auto& tip : host_tips_) {
      check_time(deadline_);
      const auto commit = read_object(everything_, tip);
      const auto tree = read_object(everything_, parse_oid(commit_links(content(commit)).tree));
      const auto entries = parse_tree(content(tree));
      if (!entries) continue;
      for (const auto& entry : *entries)
        if (entry.name == name && OidEqual()(raw_oid(entry.raw_oid), oid)) return true;
    }
    return false;
  }

  git_odb* everything_;
  const std::vector<git_oid>& host_tips_;
  const sync::SyncLimits& limits_;
  Deadline deadline_;
  OdbHandle odb_;  ///< the pack alone
  OidMap types_;   ///< what the pack holds
  OidMap links_;   ///< what its objects name, and as which type
  OidSet gitmodules_, gitattributes_;
};

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
    std::size_t size = 0;
    git_object_t type = GIT_OBJECT_INVALID;
    if (git_odb_read_header(&size, &type, odb_, &oid) < 0)
      throw Error(ErrorCode::operation_failed, fmt::format("object {} is missing", hex(oid)));
    if (type != expected)
      throw Error(ErrorCode::operation_failed,
                  fmt::format("object {} is a {} where a {} must be", hex(oid), git_object_type2string(type),
                              git_object_type2string(expected)));
  }

  static constexpr std::size_t known_limit = 8;

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
    expect_type(tree, GIT_OBJECT_TREE);
    const auto object = read_object(odb_, tree);
    const auto entries = parse_tree(content(object));
    if (!entries) throw Error(ErrorCode::operation_failed, fmt::format("tree {} is malformed", hex(tree)));
    // name -> what the known trees have there
    std::vector<ObjectHandle> known_objects;
    std::unordered_multimap<std::string_view, TreeEntry> known_entries;
    for (const auto& other : known) {
      known_objects.push_back(read_object(odb_, other));
      if (const auto list = parse_tree(content(known_objects.back())))
        for (const auto& entry : *list) known_entries.emplace(entry.name, entry);
    }
    Extent extent;
    for (const auto& entry : *entries) {
      if (entry.is_submodule()) continue;
      std::vector<git_oid> below;
      bool same = false;
      const auto [first, last] = known_entries.equal_range(entry.name);
      for (auto other = first; other != last; ++other) {
        if (other->second.is_tree() != entry.is_tree() || other->second.is_submodule()) continue;
        same = same || other->second.raw_oid == entry.raw_oid;
        if (entry.is_tree()) below.push_back(raw_oid(other->second.raw_oid));
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

  git_odb* odb_;
  std::vector<git_oid> proven_tips_;
  Deadline deadline_;
  RepositoryHandle repository_;
  std::unordered_map<std::string, Extent> whole_;    ///< folders read without a parent's beside it
  std::unordered_map<std::string, Extent> changed_;  ///< with; of one commit
  OidSet blobs_;
  std::uint64_t paths_ = 0, paths_limit_;
};

/// Through tags of tags. Throws when it leads elsewhere.
git_oid commit_of_tag(git_odb* odb, git_oid oid) {
  constexpr int nesting_limit = 5;
  for (int depth = 0; depth < nesting_limit; ++depth) {
    std::size_t size = 0;
    git_object_t type = GIT_OBJECT_INVALID;
    if (git_odb_read_header(&size, &type, odb, &oid) < 0)
      throw Error(ErrorCode::operation_failed, fmt::format("object {} is missing", hex(oid)));
    if (type == GIT_OBJECT_COMMIT) return oid;
    if (type != GIT_OBJECT_TAG || size > structure_limit_bytes)
      throw Error(ErrorCode::operation_failed, "it leads to no commit");
    const auto object = read_object(odb, oid);
    if (const auto problem = tag_problem(content(object)))
      throw Error(ErrorCode::operation_failed, fmt::format("tag {} {}", hex(oid), *problem));
    oid = parse_oid(tag_link(content(object)).object);
  }
  throw Error(ErrorCode::operation_failed, "it is a tag of a tag of a tag too often");
}

}  // namespace

void check_pack_objects(const std::string& index_path, git_odb* odb, const std::vector<git_oid>& host_tips,
                        const sync::SyncLimits& limits, Deadline deadline) {
  PackChecker(index_path, odb, host_tips, limits, deadline).run();
}

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
