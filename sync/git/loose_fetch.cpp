#include "sync/git/loose_fetch.hpp"

#include <charconv>
#include <map>

#include <fmt/format.h>

#include "sync/git/loose_object.hpp"
#include "sync/git/object_rules.hpp"
#include "sync/git/objects.hpp"
#include "sync/loose_source.hpp"
#include "sync/refs.hpp"

namespace agentvm::git {
namespace {

constexpr std::size_t objects_limit = 2'000;
constexpr unsigned rounds_limit = 64;
constexpr std::uint64_t files_limit_bytes = 2u << 20, content_limit_bytes = 32u << 20;

[[noreturn]] void give_up(std::string_view reason) {
  throw Error(ErrorCode::operation_failed, fmt::format("loose objects do not do: {}", reason));
}

class LooseWalk {
 public:
  LooseWalk(PktStream& stream, git_odb* odb) : stream_(stream), odb_(odb) {}

  std::vector<LooseObject> all(const std::set<std::string>& wanted) {
    for (const auto& id : wanted) want(parse_oid(id));
    for (unsigned round = 0; !open_.empty(); ++round) {
      if (round == rounds_limit) give_up("they lie too deep");
      ask();
      if (take_answers() == 0) give_up("they are not there");
    }
    stream_.send(flush_pkt);
    return std::move(objects_);
  }

 private:
  /// Once for each, and never for what the host has.
  void want(const git_oid& oid) {
    if (!seen_.insert(oid).second || git_odb_exists_ext(odb_, &oid, GIT_ODB_LOOKUP_NO_REFRESH)) return;
    if (++wanted_ > objects_limit) give_up("they are too many");
    open_.push_back(hex(oid));
  }

  void ask() {
    std::string request;
    for (std::size_t i = 0; i < std::min(open_.size(), sync::loose_request_limit); ++i)
      request += pkt("want " + open_[i]);
    stream_.send(request + std::string(flush_pkt));
  }

  std::size_t take_answers() {
    std::map<std::string, std::string> files;
    for (auto packet = stream_.next(); packet.kind == Pkt::Kind::data; packet = stream_.next()) {
      const std::string head(packet.payload);
      std::size_t size = 0;
      const auto* end = head.data() + head.size();
      if (head.size() < sync::oid_hex_length + 2 ||
          std::from_chars(head.data() + sync::oid_hex_length + 1, end, size).ptr != end)
        give_up("the answer is malformed");
      if ((bytes_ += size) > files_limit_bytes) give_up("they are too large");
      auto& file = files[head.substr(0, sync::oid_hex_length)];
      while (file.size() < size) {
        packet = stream_.next();
        if (packet.kind != Pkt::Kind::data || packet.payload.size() > size - file.size())
          give_up("the answer is malformed");
        file += packet.payload;
      }
    }
    std::vector<std::string> still_open;
    std::size_t taken = 0;
    for (const auto& id : std::exchange(open_, {})) {
      if (const auto file = files.find(id); file != files.end())
        take(parse_oid(id), file->second), ++taken;
      else
        still_open.push_back(id);
    }
    open_.insert(open_.begin(), still_open.begin(), still_open.end());
    return taken;
  }

  void take(const git_oid& oid, const std::string& file) {
    auto object = read_loose(file, content_limit_bytes - content_bytes_);
    content_bytes_ += object.content.size();
    git_oid named;
    const auto type = static_cast<git_object_t>(object.type);
    check_git(git_odb_hash(&named, object.content.data(), object.content.size(), type), "naming an object");
    if (!git_oid_equal(&named, &oid)) give_up("one is not what its name says");
    follow(object);
    objects_.push_back(std::move(object));
  }

  void follow(const LooseObject& object) {
    if (object.type == LooseObject::Type::commit) {
      if (commit_problem(object.content)) give_up("a commit is malformed");
      const auto links = commit_links(object.content);
      want(parse_oid(links.tree));
      for (const auto& parent : links.parents) want(parse_oid(parent));
    } else if (object.type == LooseObject::Type::tree) {
      const auto entries = parse_tree(object.content);
      if (!entries) give_up("a folder is malformed");
      for (const auto& entry : *entries)
        if (!entry.is_submodule()) want(raw_oid(entry.raw_oid));
    } else if (object.type == LooseObject::Type::tag) {
      if (tag_problem(object.content)) give_up("a tag is malformed");
      want(parse_oid(tag_link(object.content).object));
    }
  }

  PktStream& stream_;
  git_odb* odb_;
  OidSet seen_;
  std::vector<std::string> open_;  ///< ids that are still to come
  std::vector<LooseObject> objects_;
  std::size_t wanted_ = 0;
  std::uint64_t bytes_ = 0, content_bytes_ = 0;
};

}  // namespace

ReceivedPack fetch_loose(PktStream& stream, const std::set<std::string>& wanted, const std::string& pack_dir,
                         git_odb* odb, const sync::SyncLimits& limits) {
  PackSink sink(pack_dir, odb, limits);
  sink.feed(pack_of(LooseWalk(stream, odb).all(wanted)));
  return sink.finish();
}

}  // namespace agentvm::git
