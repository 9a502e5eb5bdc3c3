#include "sync/artifacts/unpack.hpp"

#include <algorithm>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sync/artifacts/tar.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/process.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::sync {
namespace {

constexpr int said_fd = 3, folder_fd = 4, request_fd = 5;
constexpr std::size_t said_limit_bytes = 64u << 10;

class Unpacker final : public TarSink {
 public:
  Unpacker(TreeWriter& tree, std::uint64_t limit_bytes) : tree_(tree), left_bytes_(limit_bytes) {}

  void entry(const TarEntry& entry) override {
    switch (entry.kind) {
      case TarEntry::Kind::folder:
        return;  // made with what is in it; git knows no empty ones
      case TarEntry::Kind::special:
        ++outcome.left_out;
        return;
      case TarEntry::Kind::link:
        return note(tree_.link(entry.path, entry.target));
      case TarEntry::Kind::same:
        return copy(entry);
      case TarEntry::Kind::file:
        break;
    }
    path_ = entry.path;
    tree_.begin(entry.executable);
  }

  void bytes(std::string_view bytes) override {
    take(bytes.size());
    const bool empty = std::all_of(bytes.begin(), bytes.end(), [](char c) { return c == 0; });
    empty ? tree_.hole(bytes.size()) : tree_.write(bytes);
  }
  void end() override { note(tree_.commit(path_, -1)); }

  UnpackOutcome outcome;

 private:
  void note(const std::optional<std::string>& problem) { problem ? ++outcome.left_out : ++outcome.files; }

  /// What was written by us, read through no link.
  void copy(const TarEntry& entry) {
    const auto from = tree_.open(entry.target);
    if (!from) return static_cast<void>(++outcome.left_out);
    path_ = entry.path;
    tree_.begin(entry.executable);
    char buffer[32u << 10];
    while (const auto count = read_some(from.get(), buffer, sizeof buffer, Deadline::never())) bytes({buffer, count});
    end();
  }

  /// Copies count, too: a thousand names of a large file are a thousand files here.
  void take(std::uint64_t bytes) {
    if (bytes > left_bytes_)
      throw Error(ErrorCode::operation_failed, "the workspace on the disk is larger than what may be copied");
    left_bytes_ -= bytes;
  }

  TreeWriter& tree_;
  std::uint64_t left_bytes_;
  std::string path_;
};

}  // namespace

Json to_json(const UnpackOutcome& outcome) {
  return {{"whole", outcome.whole}, {"files", outcome.files}, {"left_out", outcome.left_out}};
}

UnpackOutcome unpack_outcome_from(const Json& json) {
  return {require<bool>(json, "whole"), require<std::uint64_t>(json, "files"),
          require<std::uint64_t>(json, "left_out")};
}

UnpackOutcome unpack(ByteSource& source, const ArtifactLimits& limits, TreeWriter& tree) {
  Unpacker unpacker(tree, limits.bytes);
  read_tar(source, limits, unpacker);
  unpacker.outcome.whole = true;
  return unpacker.outcome;
}

UnpackOutcome unpack_archive(const fs::path& libexec, UniqueFd archive, const fs::path& folder,
                             const ArtifactLimits& limits, Deadline deadline) {
  const auto target = open_file(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  const UniqueFd request(check_errno(::memfd_create("agentvm-request", MFD_CLOEXEC), "memfd_create"));
  write_all(request.get(), dump_json({{"bytes", limits.bytes}, {"files", limits.files}}), Deadline::never());
  check_errno(static_cast<int>(::lseek(request.get(), 0, SEEK_SET)), "memfd");
  auto said = make_pipe();
  auto child = Process::spawn({.argv = {(libexec / "agentvm-artifacts").string(), "unpack"},
                               .env = std::map<std::string, std::string>{{"LC_ALL", "C"}, {"PATH", "/nonexistent"}},
                               .cwd = "/",
                               .fds = {{0, archive.get()},
                                       {said_fd, said.second.get()},
                                       {folder_fd, target.get()},
                                       {request_fd, request.get()}},
                               .die_with_parent = true});
  said.second.reset();
  archive.reset();  // the sender is to see it when the child ends
  const auto text = read_to_end(said.first.get(), said_limit_bytes, deadline);
  if (!text) throw Error(ErrorCode::operation_failed, "agentvm-artifacts says too much");
  const auto status = child.wait(deadline);
  if (text->empty())
    throw Error(ErrorCode::operation_failed,
                fmt::format("unpacking the workspace ended with {}", status ? status->describe() : "no word"));
  const auto answer = parse_json(*text, "what agentvm-artifacts says");
  if (answer.contains("verdict")) return unpack_outcome_from(answer["verdict"]);
  throw Error(error_code_from(value_or<std::string>(answer["error"], "code", "")),
              clean_guest_text(require<std::string>(answer["error"], "message"), Newlines::escape, 500));
}

}  // namespace agentvm::sync
