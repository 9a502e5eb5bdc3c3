#include "sync/git/fetch_client.hpp"

#include <cstring>

#include <fmt/format.h>

#include "vmm/base/text.hpp"

namespace agentvm::git {
namespace {

constexpr std::uint64_t progress_limit_bytes =
    1 << 20;  ///< upload-pack says nothing at all with no-progress; this is for remarks
constexpr std::uint64_t empty_limit =
    10'000;  ///< upload-pack keeps a slow connection alive with an empty packet per 5 s
constexpr std::size_t first_batch = 32, batch_limit = 1024;
constexpr std::size_t vain_limit = 4096;  ///< haves offered since the last one the guest knew
constexpr std::size_t haves_limit = 65536;

enum class Reply { nak, ack, common, ready };

struct Answer {
  Reply kind = Reply::nak;
  std::string oid;
};

Answer parse_answer(std::string_view line) {
  if (line.ends_with('\n')) line.remove_suffix(1);
  if (line == "NAK") return {};
  if (line.starts_with("ERR "))
    throw Error(ErrorCode::operation_failed,
                fmt::format("the guest's git says: {}", clean_guest_text(line.substr(4), Newlines::escape, 300)));
  constexpr std::size_t head = 4 + sync::oid_hex_length;
  if (line.starts_with("ACK ") && line.size() >= head && sync::is_oid(line.substr(4, sync::oid_hex_length))) {
    const auto rest = line.substr(head);
    const auto oid = std::string(line.substr(4, sync::oid_hex_length));
    if (rest.empty()) return {Reply::ack, oid};
    if (rest == " common" || rest == " continue") return {Reply::common, oid};
    if (rest == " ready") return {Reply::ready, oid};
  }
  throw Error(ErrorCode::operation_failed, "the guest's git answered the negotiation with something else");
}

/// History newest first, without what the guest turned out to know.
class HaveWalk {
 public:
  HaveWalk(const Haves& haves, git_odb* odb) {
    git_repository* repository = nullptr;
    check_git(git_repository_wrap_odb(&repository, odb), "opening the object store");
    repository_.reset(repository);
    git_revwalk* walk = nullptr;
    check_git(git_revwalk_new(&walk, repository), "walking history");
    walk_.reset(walk);
    git_revwalk_sorting(walk, GIT_SORT_TIME);
    for (const auto& tip : haves.tips) check_git(git_revwalk_push(walk, &tip), "walking history");
    for (std::size_t i = 0; i < haves.preferred && i < haves.tips.size(); ++i) preferred_.push_back(haves.tips[i]);
  }
  bool next(git_oid& out) {
    if (given_ < preferred_.size()) {
      out = preferred_[given_++];
      return true;
    }
    return git_revwalk_next(&out, walk_.get()) == 0;
  }

 private:
  RepositoryHandle repository_;
  RevwalkHandle walk_;
  std::vector<git_oid> preferred_;
  std::size_t given_ = 0;
};

/// Reads the answers of the negotiation, at most so many of them: git acknowledges a have once.
class Answers {
 public:
  explicit Answers(PktStream& stream) : stream_(stream) {}

  /// Up to the NAK that ends a batch. Sets `common` when the guest knew one, and returns true when it knows enough.
  bool of_batch(bool detailed, bool& common) {
    for (bool ready = false;;) {
      const auto answer = next();
      if (answer.kind == Reply::nak) return ready;
      common = true;
      if (answer.kind == Reply::ack || !detailed) return true;
      // The NAK of this batch is still to come: git sends it after the acknowledgements.
      ready = ready || answer.kind == Reply::ready;
    }
  }
  /// After "done": acknowledgements, then NAK or a plain ACK, then the pack.
  void final() {
    for (;;)
      if (const auto answer = next(); answer.kind == Reply::nak || answer.kind == Reply::ack) return;
  }

 private:
  Answer next() {
    const auto packet = stream_.next();
    if (packet.kind != Pkt::Kind::data || ++count_ > 4 * haves_limit)
      throw Error(ErrorCode::operation_failed, "the guest's git broke off the negotiation");
    return parse_answer(packet.payload);
  }
  PktStream& stream_;
  std::size_t count_ = 0;
};

}  // namespace

void negotiate(PktStream& stream, const Advertisement& advertisement, const std::vector<git_oid>& wants,
               const Haves& haves, git_odb* odb) {
  if (!advertisement.has("side-band-64k"))
    throw Error(ErrorCode::operation_failed, "the guest's git is too old: it has no side-band-64k");
  const bool detailed = advertisement.has("multi_ack_detailed");
  std::string capabilities = " side-band-64k";
  for (const char* word : {"multi_ack_detailed", "thin-pack", "ofs-delta", "no-progress"})
    if (advertisement.has(word)) capabilities += fmt::format(" {}", word);
  std::string data;
  for (std::size_t i = 0; i < wants.size(); ++i)
    data += pkt(fmt::format("want {}{}\n", hex(wants[i]), i == 0 ? capabilities : ""));
  data += flush_pkt;
  HaveWalk walk(haves, odb);
  Answers answers(stream);
  std::size_t offered = 0, since_common = 0;
  bool enough = false, more = true;
  for (std::size_t batch = first_batch; more && !enough && since_common < vain_limit && offered < haves_limit;
       batch = std::min(batch * 2, batch_limit)) {
    std::size_t count = 0;
    for (git_oid oid; count < batch && (more = walk.next(oid)); ++count)
      data += pkt(fmt::format("have {}\n", hex(oid)));
    if (count == 0) break;
    offered += count;
    since_common += count;
    data += flush_pkt;
    stream.send(data);
    data.clear();
    bool common = false;
    enough = answers.of_batch(detailed, common);
    if (common) since_common = 0;
  }
  data += pkt("done\n");
  stream.send(data);
  answers.final();
}

ReceivedPack receive_pack(PktStream& stream, const Advertisement&, const std::string& pack_dir, git_odb* odb,
                          const sync::SyncLimits& limits) {
  PackSink sink(pack_dir, odb, limits);
  std::uint64_t remarks = 0, empty = 0;
  for (;;) {
    const auto packet = stream.next();
    if (packet.kind == Pkt::Kind::flush) break;
    const auto band = static_cast<unsigned char>(packet.payload[0]);
    auto data = packet.payload.substr(1);
    if (band == 3)
      throw Error(ErrorCode::operation_failed,
                  fmt::format("the guest's git says: {}", clean_guest_text(data, Newlines::escape, 300)));
    if (band == 2) {
      if ((remarks += packet.payload.size() + 4) > progress_limit_bytes)
        throw Error(ErrorCode::operation_failed, "the guest's git sent endless remarks instead of a pack");
      continue;
    }
    if (band != 1) throw Error(ErrorCode::operation_failed, "the guest's git used an unknown side band");
    if (data.empty()) {
      if (++empty > empty_limit)
        throw Error(ErrorCode::operation_failed, "the guest's git sent endless empty packets instead of a pack");
      continue;
    }
    sink.feed(data);
  }
  return sink.finish();
}

}  // namespace agentvm::git
