#include "sync/artifacts/receive.hpp"

#include <algorithm>
#include <set>

#include <unistd.h>

#include "sync/git/lookalikes.hpp"

namespace agentvm::sync {
namespace {

constexpr std::size_t told_limit = 100;  // entries left out that are named

using Kind = TreeWriter::Found::Kind;

bool contains(const std::vector<std::string>& sorted, const std::string& text) {
  return std::binary_search(sorted.begin(), sorted.end(), text);
}

/// What of a listing has to come, against what is there.
struct Plan {
  std::vector<std::uint32_t> wanted;      // of the stream
  std::vector<std::uint32_t> questioned;  // of those: may be what is there already, and would be asked about
  std::vector<const ListedLink*> links;
};

/// Compares contents with what is there, so that nobody is asked about a file that only has another date.
class Comparer final : public ContentSink {
 public:
  explicit Comparer(TreeWriter& tree) : tree_(tree) {}
  void begin(const ListedFile& file) override {
    path_ = file.path;
    there_ = tree_.open(file.path);
    equal_ = static_cast<bool>(there_);
  }
  void bytes(std::string_view bytes) override {
    char buffer[32u << 10];
    while (equal_ && !bytes.empty()) {
      const auto count = ::read(there_.get(), buffer, std::min(sizeof buffer, bytes.size()));
      equal_ = count > 0 && bytes.substr(0, static_cast<std::size_t>(count)) ==
                                std::string_view(buffer, static_cast<std::size_t>(count));
      if (equal_) bytes.remove_prefix(static_cast<std::size_t>(count));
    }
  }
  void hole(std::uint64_t size) override {
    static const std::string zeros(32u << 10, '\0');
    for (; equal_ && size > 0; size -= std::min<std::uint64_t>(size, zeros.size()))
      bytes(std::string_view(zeros).substr(0, std::min<std::uint64_t>(size, zeros.size())));
  }
  void end(bool whole) override {
    if (whole && equal_) same.insert(path_);
  }
  std::set<std::string> same;

 private:
  TreeWriter& tree_;
  std::string path_;
  UniqueFd there_;
  bool equal_ = false;
};

class Receiver final : public ContentSink {
 public:
  Receiver(const ReceiveRequest& request, const Listing& listing, TreeWriter& tree,
           const std::function<void(const ReceiveProgress&)>& progress)
      : request_(request), listing_(listing), tree_(tree), progress_(progress) {
    for (const auto& entry : listing.left_out) leave_out(entry.path, entry.reason);
  }

  Plan judge() {
    Plan plan;
    for (std::uint32_t index = 0; index < listing_.places.size(); ++index) {
      if (listing_.places[index] == Listing::none) continue;
      const auto& file = listing_.files[listing_.places[index]];
      const auto found = tree_.look(file.path);
      const bool same = found.kind == Kind::file && found.size == file.size && found.mtime_ns == file.mtime_ns &&
                        found.executable == file.executable;
      if (!wanted(file.path, found.kind, same, found.kind == Kind::link)) continue;
      plan.wanted.push_back(index);
      const bool gated = !verdict.gated.empty() && verdict.gated.back().path == file.path;
      if (gated && found.kind == Kind::file && found.size == file.size && found.executable == file.executable)
        plan.questioned.push_back(index);
    }
    for (const auto& link : listing_.links) {
      const auto found = tree_.look(link.path);
      const bool same = found.kind == Kind::link && found.target == link.target;
      if (wanted(link.path, found.kind, same, found.kind == Kind::file)) plan.links.push_back(&link);
    }
    return plan;
  }

  /// What turned out to be there already.
  void take_out(Plan& plan, const std::set<std::string>& same) {
    std::erase_if(plan.wanted, [&](std::uint32_t index) { return same.contains(path_of(index)); });
    std::erase_if(verdict.gated, [&](const AskedFor& entry) { return same.contains(entry.path); });
    verdict.unchanged += same.size();
  }

  void expect(const Plan& plan) {
    all_.all_files = plan.wanted.size();
    for (const auto index : plan.wanted) all_.all_bytes += listing_.files[listing_.places[index]].size;
  }

  /// Links come last: a file behind one would be in the way of nothing.
  void make_links(const Plan& plan) {
    for (const auto* link : plan.links) {
      const auto problem = tree_.link(link->path, link->target);
      problem ? leave_out(link->path, *problem) : static_cast<void>(++verdict.links);
    }
  }

  void begin(const ListedFile& file) override {
    file_ = &file;
    tree_.begin(file.executable);
  }
  void bytes(std::string_view bytes) override {
    tree_.write(bytes);
    all_.bytes += bytes.size();
    progress_(all_);
  }
  void hole(std::uint64_t size) override {
    tree_.hole(size);
    all_.bytes += size;
  }
  void end(bool whole) override {
    ++all_.files;
    progress_(all_);
    if (!whole) {
      tree_.discard();
      return leave_out(file_->path, "it changed while it was sent");
    }
    if (const auto problem = tree_.commit(file_->path, file_->mtime_ns)) return leave_out(file_->path, *problem);
    ++verdict.files;
    verdict.bytes += file_->size;
  }

  ReceiveVerdict verdict;

 private:
  const std::string& path_of(std::uint32_t index) const { return listing_.files[listing_.places[index]].path; }

  bool wanted(const std::string& path, Kind there, bool same, bool other_kind) {
    if (same) {
      ++verdict.unchanged;
      return false;
    }
    if (there == Kind::blocked || other_kind) {
      leave_out(path, "something of yours is in the way");
      return false;
    }
    if (const auto kind = artifact_kind(path, request_); kind && !contains(request_.accepted, path))
      verdict.gated.push_back({path, *kind});
    return true;
  }

  void leave_out(const std::string& path, const std::string& reason) {
    ++verdict.left_out_count;
    if (verdict.left_out.size() < told_limit) verdict.left_out.push_back({path, reason});
  }

  const ReceiveRequest& request_;
  const Listing& listing_;
  TreeWriter& tree_;
  const std::function<void(const ReceiveProgress&)>& progress_;
  const ListedFile* file_ = nullptr;
  ReceiveProgress all_;
};

}  // namespace

Json to_json(const ReceiveRequest& request) {
  return {{"bytes", request.limits.bytes}, {"files", request.limits.files}, {"globs", request.globs},
          {"allow", request.gate.allow},   {"deny", request.gate.deny},     {"always", request.gate.always},
          {"tracked", request.tracked},    {"accepted", request.accepted},  {"dry_run", request.dry_run}};
}

ReceiveRequest receive_request_from(const Json& json) {
  using Texts = std::vector<std::string>;
  ReceiveRequest request;
  request.limits = {require<std::uint64_t>(json, "bytes"), require<std::uint64_t>(json, "files")};
  request.globs = require<Texts>(json, "globs");
  request.gate = {require<Texts>(json, "allow"), require<Texts>(json, "deny"), require<Texts>(json, "always")};
  request.tracked = require<Texts>(json, "tracked");
  request.accepted = require<Texts>(json, "accepted");
  request.dry_run = require<bool>(json, "dry_run");
  std::sort(request.tracked.begin(), request.tracked.end());
  std::sort(request.accepted.begin(), request.accepted.end());
  return request;
}

Json to_json(const ReceiveVerdict& verdict) {
  auto gated = Json::array(), left_out = Json::array();
  for (const auto& entry : verdict.gated) gated.push_back({{"path", entry.path}, {"kind", entry.kind}});
  for (const auto& entry : verdict.left_out) left_out.push_back({{"path", entry.path}, {"reason", entry.reason}});
  return {{"gated", gated},
          {"files", verdict.files},
          {"links", verdict.links},
          {"bytes", verdict.bytes},
          {"unchanged", verdict.unchanged},
          {"left_out", left_out},
          {"left_out_count", verdict.left_out_count}};
}

ReceiveVerdict receive_verdict_from(const Json& json) {
  ReceiveVerdict verdict;
  for (const auto& entry : require<std::vector<Json>>(json, "gated"))
    verdict.gated.push_back({require<std::string>(entry, "path"), require<std::string>(entry, "kind")});
  verdict.files = require<std::uint64_t>(json, "files");
  verdict.links = require<std::uint64_t>(json, "links");
  verdict.bytes = require<std::uint64_t>(json, "bytes");
  verdict.unchanged = require<std::uint64_t>(json, "unchanged");
  for (const auto& entry : require<std::vector<Json>>(json, "left_out"))
    verdict.left_out.push_back({require<std::string>(entry, "path"), require<std::string>(entry, "reason")});
  verdict.left_out_count = require<std::uint64_t>(json, "left_out_count");
  return verdict;
}

std::optional<std::string> artifact_kind(const std::string& path, const ReceiveRequest& request) {
  if (contains(request.tracked, path)) return "tracked";
  const auto name = std::string_view(path).substr(path.rfind('/') + 1);
  if (git::is_dotgitattributes(name) || git::is_dotgitmodules(name)) return "git";
  constexpr unsigned plain_mode = 0100644;
  return gate_kind({.path = path, .new_mode = plain_mode}, request.gate);
}

ReceiveVerdict receive(const ReceiveRequest& request, ByteSource& source,
                       const std::function<void(std::string_view)>& answer, TreeWriter& tree,
                       const std::function<void(const ReceiveProgress&)>& progress) {
  const auto listing = read_listing(source, request.globs, request.limits);
  Receiver receiver(request, listing, tree, progress);
  auto plan = receiver.judge();
  if (!plan.questioned.empty()) {
    answer(wanted_bytes(plan.questioned));
    Comparer comparer(tree);
    read_contents(source, listing, plan.questioned, comparer);
    receiver.take_out(plan, comparer.same);
  }
  auto& verdict = receiver.verdict;
  if (request.dry_run || !verdict.gated.empty()) {
    verdict.files = plan.wanted.size();
    verdict.links = plan.links.size();
    for (const auto index : plan.wanted) verdict.bytes += listing.files[listing.places[index]].size;
    answer(wanted_bytes({}));
    return std::move(verdict);
  }
  if (!plan.wanted.empty()) {
    receiver.expect(plan);
    answer(wanted_bytes(plan.wanted));
    read_contents(source, listing, plan.wanted, receiver);
  }
  answer(wanted_bytes({}));
  receiver.make_links(plan);
  return std::move(verdict);
}

}  // namespace agentvm::sync
