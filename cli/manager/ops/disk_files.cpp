#include "cli/manager/ops/disk_files.hpp"

#include <algorithm>
#include <future>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>

#include "cli/manager/ops/requests.hpp"
#include "guest/image/listing.hpp"
#include "sync/artifacts/unpack.hpp"
#include "sync/salvage.hpp"
#include "sync/salvage/disarm.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds read_limit{20 * 60'000};  // of a whole workspace, emulated
constexpr milliseconds hold_limit{10'000};
constexpr milliseconds kept_hold_limit = read_limit;  // only another read has it
constexpr std::size_t path_limit_bytes = 4096;        // PATH_MAX
constexpr std::size_t kept_id_characters = 9;         // of a sandbox's id, as `keep_disk` writes it, with the dash

/// A disk that nobody writes, for as long as this is there.
struct QuietDisk {
  std::string name;
  std::optional<Core::Hold> hold;
  DiskRead read;
  std::unique_ptr<DiskScratch> scratch;
};

std::string asked_path(const Json& params) {
  auto path = fs::path("/" + text_or_empty(params, "path")).lexically_normal().string();
  if (path.size() > 1 && path.ends_with('/')) path.pop_back();
  if (path.size() >= path_limit_bytes || path.find('\0') != path.npos)
    throw Error(ErrorCode::usage, "that is no path", "agentvm help rescue");
  return path.starts_with("//") ? path.substr(1) : path;
}

QuietDisk sandbox_disk(Core& core, const SandboxRecord& stored, const std::string& path) {
  QuietDisk quiet{.name = stored.name.str(), .hold = core.hold(stored.name, Deadline::after(hold_limit))};
  const auto record = core.store().get(stored.name);
  if (record.state != SandboxState::stopped && record.state != SandboxState::failed)
    throw Error(ErrorCode::wrong_state,
                fmt::format("'{}' is {}: its disk is read while it does not run", quiet.name, to_string(record.state)),
                record.state == SandboxState::running
                    ? fmt::format("agentvm exec {} -- ls {}", quiet.name, shell_word(path))
                    : "agentvm status " + quiet.name);
  const auto folder = core.store().folder(record.name);
  const auto disk = folder / sandbox_files::disk;
  if (!fs::exists(disk))
    throw Error(ErrorCode::not_found, fmt::format("'{}' has no disk yet", quiet.name),
                "agentvm start " + record.project.string());
  if (record.workspace == WorkspaceMode::virtiofs && (path == "/workspace" || path.starts_with("/workspace/")))
    throw Error(
        ErrorCode::not_found,
        fmt::format("/workspace of '{}' is not on its disk but in {}, which its guest writes: open no repository "
                    "there",
                    quiet.name, (folder / sandbox_files::workspace).string()),
        fmt::format("agentvm start {}, then agentvm sync", record.project.string()));
  quiet.scratch = std::make_unique<DiskScratch>(folder / "rescue");
  quiet.read = disk_read(core, record, disk, quiet.scratch->path());
  return quiet;
}

/// The newest of those that were kept under that name ("web-0123abcd", or the sandbox's own "web").
std::optional<fs::path> kept_disk(Core& core, const std::string& name) {
  std::optional<fs::path> found;
  if (!fs::is_directory(core.kept_disks())) return found;
  for (const auto& entry : fs::directory_iterator(core.kept_disks())) {
    const auto stem = entry.path().stem().string();
    if (entry.path().extension() != ".qcow2" || stem.size() <= kept_id_characters) continue;
    if (stem != name && stem.substr(0, stem.size() - kept_id_characters) != name) continue;
    if (!found || fs::last_write_time(*found) < entry.last_write_time()) found = entry.path();
  }
  return found;
}

QuietDisk quiet_disk(Core& core, const Json& params, DiskRead::What what) {
  const auto path = asked_path(params);
  const auto name = optional_text(params, "name");
  const auto kept = name && !core.store().find(SandboxName::parse(*name)) ? kept_disk(core, *name) : std::nullopt;
  QuietDisk quiet;
  if (kept) {
    quiet.name = kept->stem().string();
    // Of its sandbox's id, under which no sandbox is any more.
    const auto id = quiet.name.substr(quiet.name.size() - kept_id_characters + 1);
    quiet.hold = core.hold(SandboxName::parse("kept-" + id), Deadline::after(kept_hold_limit));
    const auto digest = read_file_if_exists(kept->string() + ".image", 256).value_or("");
    quiet.scratch = std::make_unique<DiskScratch>(core.kept_disks() / (quiet.name + ".rescue"));
    quiet.read = {.disk = *kept,
                  .image = get_image(core.paths().images(), digest.substr(0, digest.find('\n'))),
                  .libexec = core.paths().libexec,
                  .cache = core.appliances(),
                  .scratch = quiet.scratch->path(),
                  .sockets = core.paths().sockets(quiet.name)};
  } else {
    quiet = sandbox_disk(core, core.resolve(params), path);
  }
  quiet.read.what = what;
  quiet.read.path = path;
  return quiet;
}

const char* kind_of(unsigned mode) {
  return S_ISREG(mode) ? "file" : S_ISDIR(mode) ? "folder" : S_ISLNK(mode) ? "link" : "other";
}

/// Runs `take` on what the reader sends while its words are followed. An error of `take` is the cause of the reader's,
/// unless time or the client ended both.
template <typename Take>
auto follow(DiskReader& reader, CallContext& call, Deadline deadline, const Take& take) {
  auto taking =
      std::async(std::launch::async, [&take, data = reader.take_data()]() mutable { return take(std::move(data)); });
  std::optional<Error> unread;
  try {
    reader.finish(
        [&call, relay = call.progress_function()](const ProgressEvent& event) {
          relay(event);
          call.check_cancelled();
        },
        deadline);
  } catch (const Error& error) {
    unread = error;
  }
  const bool ended = unread && (unread->code() == ErrorCode::cancelled || unread->code() == ErrorCode::timed_out);
  if (ended) {
    taking.wait();
    throw Error(*unread);
  }
  auto taken = taking.get();
  if (unread) throw Error(*unread);
  return taken;
}

/// Where the copy goes: a name that is free, and none by which git would take the copy for a repository.
fs::path free_target(const fs::path& to, const std::string& path) {
  struct stat status {};
  auto target = to;
  if (::stat(to.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) {
    const auto name = fs::path(path).filename();
    target /= name.empty() || name == "/" ? fs::path("disk") : name;
  }
  if (sync::names_a_repository(target.filename().string()))
    throw Error(
        ErrorCode::usage,
        target.string() + ": git on this host would take it for a repository, and run what its configuration says",
        fmt::format("agentvm rescue cp {} ANOTHER-NAME", shell_word(path)));
  if (::lstat(target.c_str(), &status) == 0)
    throw Error(ErrorCode::wrong_state, target.string() + " exists already, and is not overwritten",
                "agentvm rescue cp ... ANOTHER-NAME");
  if (!fs::is_directory(target.parent_path()))
    throw Error(ErrorCode::not_found, "there is no folder " + target.parent_path().string(),
                "mkdir -p " + shell_word(target.parent_path().string()));
  return target;
}

struct Copied {
  std::string kind;
  std::uint64_t files = 0, left_out = 0, bytes = 0;
  bool whole = true;
};

Copied copy_file(UniqueFd data, const fs::path& into, bool executable, Deadline deadline) {
  const sync::SalvageLimits limits;
  const auto file = open_file(into, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, executable ? 0700 : 0600);
  Copied copied{.kind = "file", .files = 1};
  std::vector<char> buffer(256u << 10);
  while (const auto count = read_some(data.get(), buffer.data(), buffer.size(), deadline)) {
    copied.bytes += count;
    if (copied.bytes > limits.bytes)
      throw Error(ErrorCode::operation_failed, "the file is larger than what may be copied");
    write_all(file.get(), {buffer.data(), count}, deadline);
  }
  check_errno(::fsync(file.get()), into.string());
  return copied;
}

/// What comes first says what it is.
Copied copy_into(Core& core, UniqueFd data, const fs::path& into, Deadline deadline) {
  char kind = 0;
  if (read_some(data.get(), &kind, 1, deadline) != 1) return {};  // the reader says why
  if (kind != 'D') return copy_file(std::move(data), into, kind == 'X', deadline);
  const sync::SalvageLimits limits;
  ensure_private_dir(into);
  const auto unpacked =
      sync::unpack_archive(core.paths().libexec, std::move(data), into, {limits.bytes, limits.entries}, deadline);
  return {.kind = "folder", .files = unpacked.files, .left_out = unpacked.left_out, .whole = unpacked.whole};
}

/// A name beside the target that goes again when nothing came of it.
struct Unfinished {
  explicit Unfinished(const fs::path& target) : path(target.parent_path() / (".agentvm-rescue-" + random_hex(8))) {}
  ~Unfinished() {
    try {
      remove_tree(path);
    } catch (const Error& error) {
      log::warn("rescue", "{}", error.what());
    }
  }
  Unfinished(const Unfinished&) = delete;
  Unfinished& operator=(const Unfinished&) = delete;
  const fs::path path;
};

}  // namespace

DiskScratch::DiskScratch(fs::path path) : path_(std::move(path)) {
  remove_tree(path_);
  ensure_private_dir(path_);
}

DiskScratch::~DiskScratch() {
  try {
    remove_tree(path_);
  } catch (const Error& error) {
    log::warn("rescue", "{}", error.what());  // it goes with the sandbox
  }
}

DiskRead disk_read(Core& core, const SandboxRecord& record, const fs::path& disk, const fs::path& scratch) {
  return {.disk = disk,
          .image = get_image(core.paths().images(), record.image_digest),
          .libexec = core.paths().libexec,
          .cache = core.appliances(),
          .scratch = scratch,
          .sockets = core.paths().sockets(record.name.str()) / "g",
          .accelerator = record.accelerator == "kvm" ? Accelerator::kvm : Accelerator::tcg};
}

Json list_disk_files(Core& core, CallContext& call, const Json& params) {
  const auto deadline = Deadline::after(read_limit);
  const auto quiet = quiet_disk(core, params, DiskRead::What::list);
  DiskReader reader(quiet.read, call.progress_function(), deadline);
  const auto listed = follow(reader, call, deadline, [deadline](UniqueFd data) {
    return read_to_end(data.get(), listing_limit_bytes, deadline);
  });
  if (!listed) throw Error(ErrorCode::operation_failed, quiet.read.path + " has too many entries to list");
  auto entries = parse_listing(*listed);
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  Json result{
      {"schema", "agentvm.rescue-ls/1"}, {"name", quiet.name}, {"path", quiet.read.path}, {"entries", Json::array()}};
  for (const auto& entry : entries)
    result["entries"].push_back({{"name", clean_guest_text(entry.name)},
                                 {"kind", kind_of(entry.mode)},
                                 {"mode", fmt::format("{:04o}", entry.mode & 07777u)},
                                 {"uid", entry.uid},
                                 {"gid", entry.gid},
                                 {"size", entry.size},
                                 {"modified", format_time(entry.modified)},
                                 {"target", clean_guest_text(entry.target)}});
  return result;
}

Json print_disk_file(Core& core, CallContext& call, const Json& params) {
  const auto deadline = Deadline::after(read_limit);
  const auto quiet = quiet_disk(core, params, DiskRead::What::any);
  DiskReader reader(quiet.read, call.progress_function(), deadline);
  follow(reader, call, deadline, [&](UniqueFd data) {
    char kind = 0;
    if (read_some(data.get(), &kind, 1, deadline) != 1) return 0;  // the reader says why
    if (kind == 'D')
      throw Error(ErrorCode::wrong_state, quiet.read.path + " is a folder",
                  fmt::format("agentvm rescue {} ls {}", quiet.name, shell_word(quiet.read.path)));
    std::vector<UniqueFd> streams;
    streams.push_back(std::move(data));
    call.send_streams(std::move(streams));
    return 0;
  });
  return {{"schema", "agentvm.rescue-cat/1"}, {"name", quiet.name}, {"path", quiet.read.path}};
}

Json copy_disk_files(Core& core, CallContext& call, const Json& params) {
  const auto deadline = Deadline::after(read_limit);
  const auto to = fs::path(require<std::string>(params, "to"));
  if (!to.is_absolute()) throw Error(ErrorCode::usage, "the target must be an absolute path");
  const auto quiet = quiet_disk(core, params, DiskRead::What::any);
  const auto target = free_target(to, quiet.read.path);
  const Unfinished unfinished(target);
  DiskReader reader(quiet.read, call.progress_function(), deadline);
  const auto copied = follow(reader, call, deadline, [&](UniqueFd data) {
    return copy_into(core, std::move(data), unfinished.path, deadline);
  });
  if (!copied.whole) throw Error(ErrorCode::operation_failed, "the archive from the disk has no end");
  const auto inert = copied.kind == "folder" ? sync::disarm_repositories(unfinished.path) : std::vector<std::string>();
  if (::renameat2(AT_FDCWD, unfinished.path.c_str(), AT_FDCWD, target.c_str(), RENAME_NOREPLACE) < 0)
    throw_errno("making " + target.string());
  sync_dir(target.parent_path());
  if (copied.left_out != 0)
    call.warning(fmt::format("{} devices and other special files were left out", copied.left_out));
  if (!inert.empty())
    call.warning(
        fmt::format("git on this host would run what a repository's configuration says: {} renamed to end in "
                    ".rescued ({})",
                    inert.size() == 1 ? "1 file was" : fmt::format("{} files were", inert.size()),
                    clean_guest_text(inert.front(), Newlines::escape, 200)));
  return {{"schema", "agentvm.rescue-cp/1"}, {"name", quiet.name},     {"path", quiet.read.path},
          {"to", target.string()},           {"kind", copied.kind},    {"files", copied.files},
          {"left_out", copied.left_out},     {"renamed", inert.size()}};
}

}  // namespace agentvm::manager
