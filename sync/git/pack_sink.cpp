#include "sync/git/pack_sink.hpp"

namespace agentvm::git {

PackSink::PackSink(const std::string& pack_dir, git_odb* odb, const sync::SyncLimits& limits) : walk_(limits) {
  git_indexer_options options = GIT_INDEXER_OPTIONS_INIT;
  git_indexer* raw = nullptr;
  check_git(git_indexer_new(&raw, pack_dir.c_str(), 0444, odb, &options), "storing the pack");
  indexer_.reset(raw);
}

void PackSink::feed(std::string_view data) {
  any_ = any_ || !data.empty();
  walk_.feed(data);
  check_git(git_indexer_append(indexer_.get(), data.data(), data.size(), &stats_), "reading the pack");
}

ReceivedPack PackSink::finish() {
  if (!any_) throw Error(ErrorCode::operation_failed, "the guest's git sent no pack");
  walk_.finish();
  check_git(git_indexer_commit(indexer_.get(), &stats_), "finishing the pack");
  return {hex(*git_indexer_hash(indexer_.get())), stats_.total_objects};
}

}  // namespace agentvm::git
