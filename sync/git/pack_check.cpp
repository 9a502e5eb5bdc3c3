#include <array>

#include <fmt/format.h>

#include "sync/git/check.hpp"
#include "sync/git/lookalikes.hpp"
#include "sync/git/object_rules.hpp"
#include "sync/git/objects.hpp"

namespace agentvm::git {
namespace {

constexpr std::size_t gitmodules_limit_bytes = 1u << 20;
constexpr std::size_t gitattributes_limit_bytes = 16u << 20;
constexpr std::size_t judged_tree_limit_bytes = 1u << 20;  ///< of one that is kept to compare the next with

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

/// What is judged has the content that it is named by, whatever the indexer made of the pack.
class HashVerification {
 public:
  HashVerification() { git_libgit2_opts(GIT_OPT_ENABLE_STRICT_HASH_VERIFICATION, 1); }
  ~HashVerification() { git_libgit2_opts(GIT_OPT_ENABLE_STRICT_HASH_VERIFICATION, 0); }
  HashVerification(const HashVerification&) = delete;
  HashVerification& operator=(const HashVerification&) = delete;
};

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
    check_git(git_odb_foreach(odb_.get(), collect, &oids), "listing the pack");  // in the order that they lie in it
    types_.reserve(oids.size());
    links_.reserve(oids.size());
    std::uint64_t total = 0;
    for (std::size_t i = 0; i < oids.size(); ++i) {
      if (i % 256 == 0) check_time(deadline_);
      const auto [size, type] = read_header(odb_.get(), oids[i]);
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
    auto object = read_object(odb_.get(), oid);
    const auto text = content(object);
    if (type == GIT_OBJECT_TREE) return check_tree(oid, std::move(object));
    const auto problem = type == GIT_OBJECT_COMMIT ? commit_problem(text) : tag_problem(text);
    if (problem) refuse(git_object_type2string(type), oid, *problem);
    if (type == GIT_OBJECT_COMMIT) {
      const auto links = commit_links(text);
      expect(parse_oid(links.tree), GIT_OBJECT_TREE);
      for (const auto& parent : links.parents) expect(parse_oid(parent), GIT_OBJECT_COMMIT);
    } else {
      const auto link = tag_link(text);
      expect(parse_oid(link.object), git_object_string2type(link.type.c_str()));
    }
  }

  /// Most of a folder is as it was in the version of it that was judged before: that is not judged again.
  void check_tree(const git_oid& oid, ObjectHandle object) {
    auto entries = parse_tree(content(object));
    if (!entries) refuse("tree", oid, malformed_tree);
    auto& alike = judged_[entries->empty() ? 0 : std::hash<std::string_view>()(entries->front().name) % judged_.size()];
    const auto unjudged = entries_besides(alike.entries, *entries);
    if (const auto problem = tree_problem(*entries, unjudged)) refuse("tree", oid, *problem);
    for (const auto& entry : unjudged) {
      if (entry.is_submodule()) continue;
      expect(raw_oid(entry.raw_oid), entry.is_tree() ? GIT_OBJECT_TREE : GIT_OBJECT_BLOB);
      if (is_dotgitmodules(entry.name)) gitmodules_.insert(raw_oid(entry.raw_oid));
      if (is_dotgitattributes(entry.name) && !entry.is_symlink()) gitattributes_.insert(raw_oid(entry.raw_oid));
    }
    if (content(object).size() <= judged_tree_limit_bytes) alike = {std::move(object), std::move(*entries)};
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
      const auto header = find_header(everything_, oid);
      if (!header) refuse("object", oid, "is needed but was not sent");
      type = header->type;
    }
    if (type != expected)
      refuse(git_object_type2string(type), oid,
             fmt::format("stands where a {} must be", git_object_type2string(expected)));
  }

  /// Content that this guest sent earlier under a harmless name is at the host already: it is judged all the same.
  void check_special(const git_oid& oid, std::string_view name, std::size_t limit,
                     std::optional<std::string> (*problem_of)(std::string_view)) {
    auto problem = read_header(everything_, oid).size > limit
                       ? std::optional(fmt::format("is a {} file that is too large", name))
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
  OdbHandle odb_;                      ///< the pack alone
  OidMap<git_object_t> types_;         ///< what the pack holds
  OidMap<git_object_t> links_;         ///< what its objects name, and as which type
  std::array<ParsedTree, 16> judged_;  ///< trees that were sound, by the name of their first entry
  OidSet gitmodules_, gitattributes_;
};

}  // namespace

void check_pack_objects(const std::string& index_path, git_odb* odb, const std::vector<git_oid>& host_tips,
                        const sync::SyncLimits& limits, Deadline deadline) {
  const HashVerification verifies;
  PackChecker(index_path, odb, host_tips, limits, deadline).run();
}

}  // namespace agentvm::git
