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
constexpr std::size_t path_limit_bytes = 4095;  ///< PATH_MAX without its end

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
  PackChecker(const std::string& index_path, git_odb* everything, const sync::SyncLimits& limits, Deadline deadline)
      : everything_(everything), limits_(limits), deadline_(deadline) {
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
    for (const auto& oid : gitmodules_) check_gitmodules(oid);
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
        if (!entry.is_tree() && is_dotgitmodules(entry.name)) gitmodules_.insert(raw_oid(entry.raw_oid));
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

  void check_gitmodules(const git_oid& oid) {
    // A file that the host has already is not ours to judge.
    if (!git_odb_exists(odb_.get(), &oid)) return;
    std::size_t size = 0;
    git_object_t type = GIT_OBJECT_INVALID;
    check_git(git_odb_read_header(&size, &type, odb_.get(), &oid), "reading object " + hex(oid));
    if (type != GIT_OBJECT_BLOB) refuse("object", oid, "is named .gitmodules but is no file");
    if (size > gitmodules_limit_bytes) refuse("blob", oid, "is a .gitmodules file that is too large");
    if (const auto problem = gitmodules_problem(content(read_object(odb_.get(), oid)))) refuse("blob", oid, *problem);
  }

  git_odb* everything_;
  const sync::SyncLimits& limits_;
  Deadline deadline_;
  OdbHandle odb_;  ///< the pack alone
  OidMap types_;   ///< what the pack holds
  OidMap links_;   ///< what its objects name, and as which type
  OidSet gitmodules_;
};

/// Proves that everything below a tip is there.
class ConnectivityWalk {
 public:
  ConnectivityWalk(git_odb* odb, const std::vector<git_oid>& host_tips, Deadline deadline)
      : odb_(odb), proven_tips_(host_tips), deadline_(deadline) {
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
    try {
      while ((result = git_revwalk_next(&oid, raw)) == 0) prove_commit(oid);
      if (result != GIT_ITEROVER) check_git(result, "walking history");
    } catch (...) {
      seen_.clear();  // what this walk saw may hang below something that is missing
      throw;
    }
    proven_tips_.push_back(tip);
  }

 private:
  struct Pending {
    git_oid tree;
    std::vector<git_oid> known;  ///< trees at the same path that are proven: what they share need not be looked at
    std::size_t path_bytes = 0;
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
    for (const auto& parent : links.parents) known.push_back(parse_oid(links_of(parse_oid(parent)).tree));
    std::vector<Pending> stack;
    push(stack, parse_oid(links.tree), std::move(known), 0);
    while (!stack.empty()) {
      auto next = std::move(stack.back());
      stack.pop_back();
      prove_tree(next, stack);
    }
  }

  void push(std::vector<Pending>& stack, const git_oid& tree, std::vector<git_oid> known, std::size_t path_bytes) {
    for (const auto& other : known)
      if (git_oid_equal(&other, &tree)) return;
    if (path_bytes > path_limit_bytes) throw Error(ErrorCode::operation_failed, "a path is longer than 4095 bytes");
    if (seen_.insert(tree).second) stack.push_back({tree, std::move(known), path_bytes});
  }

  void prove_tree(const Pending& item, std::vector<Pending>& stack) {
    expect_type(item.tree, GIT_OBJECT_TREE);
    const auto object = read_object(odb_, item.tree);
    const auto entries = parse_tree(content(object));
    if (!entries) throw Error(ErrorCode::operation_failed, fmt::format("tree {} is malformed", hex(item.tree)));
    // name -> ids of what the known trees have there
    std::vector<ObjectHandle> known_objects;
    std::unordered_multimap<std::string_view, TreeEntry> known_entries;
    for (const auto& known : item.known) {
      known_objects.push_back(read_object(odb_, known));
      if (const auto list = parse_tree(content(known_objects.back())))
        for (const auto& entry : *list) known_entries.emplace(entry.name, entry);
    }
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
      if (entry.is_tree())
        push(stack, oid, std::move(below), item.path_bytes + entry.name.size() + 1);
      else if (seen_.insert(oid).second)
        expect_type(oid, GIT_OBJECT_BLOB);
    }
  }

  git_odb* odb_;
  std::vector<git_oid> proven_tips_;
  Deadline deadline_;
  RepositoryHandle repository_;
  OidSet seen_;
};

}  // namespace

void check_pack_objects(const std::string& index_path, git_odb* odb, const sync::SyncLimits& limits,
                        Deadline deadline) {
  PackChecker(index_path, odb, limits, deadline).run();
}

void check_connectivity(git_odb* odb, const std::vector<git_oid>& host_tips,
                        std::map<std::string, std::string>& branches, std::vector<sync::RejectedRef>& rejected,
                        Deadline deadline) {
  OidSet host(host_tips.begin(), host_tips.end());
  ConnectivityWalk walk(odb, host_tips, deadline);
  for (auto entry = branches.begin(); entry != branches.end();) {
    const auto tip = parse_oid(entry->second);
    try {
      if (!host.contains(tip)) walk.prove(tip);
      ++entry;
    } catch (const Error& error) {
      if (error.code() == ErrorCode::timed_out) throw;
      rejected.push_back(
          {std::string(sync::branch_prefix) + entry->first, fmt::format("is not complete: {}", error.what())});
      entry = branches.erase(entry);
    }
  }
}

}  // namespace agentvm::git
