#include "sync/artifacts/artifacts.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sync/git/lookalikes.hpp"
#include "sync/host_git.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/process.hpp"
#include "vmm/base/sizes.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::sync {
namespace {

constexpr int said_fd = 3, folder_fd = 4, request_fd = 5;
constexpr std::size_t line_limit_bytes = 256u << 20;  // a verdict names every file that the user is asked about
constexpr std::size_t remarks_limit_bytes = 4096;
constexpr milliseconds stop_turn{100};
constexpr const char* shown_file = "artifacts-shown.json";
constexpr std::size_t shown_limit_bytes = 64u << 20;

void check_destination(const ArtifactRequest& request, const fs::path& real) {
  const auto refuse = [&](const char* why) {
    throw Error(ErrorCode::usage, fmt::format("{} {}", request.destination.string(), why),
                "agentvm sync --artifacts --to DIR");
  };
  const auto forbidden = fs::weakly_canonical(request.forbidden);
  if (std::mismatch(forbidden.begin(), forbidden.end(), real.begin(), real.end()).first == forbidden.end())
    refuse("belongs to agentvm and may be shared with a guest");
  for (const auto& part : real)
    if (git::is_dotgit(part.string())) refuse("is inside of a .git folder");
}

/// The user's own folder, opened as they named it: the links in that name are theirs.
UniqueFd open_destination(const ArtifactRequest& request) {
  const auto& folder = request.destination;
  check_destination(request, fs::weakly_canonical(folder));
  fs::create_directories(folder);
  UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) throw_errno(folder.string());
  check_destination(request, fs::canonical(fmt::format("/proc/self/fd/{}", fd.get())));  // what was opened, that is
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) < 0)
    throw Error(ErrorCode::wrong_state, fmt::format("build products are being written to {} already", folder.string()));
  return fd;
}

/// What git has below the destination and could be written over; nothing where there is no repository.
std::vector<std::string> tracked_files(const ArtifactRequest& request, Deadline deadline) {
  const HostGit git(request.destination);
  if (git.try_line({"rev-parse", "--is-inside-work-tree"}, deadline).value_or("") != "true") return {};
  std::vector<std::string> tracked;
  for (auto& path : split_nul(git.output({"ls-files", "-z", "--cached"}, deadline)))
    if (std::any_of(request.globs.begin(), request.globs.end(),
                    [&](const std::string& glob) { return path_matches("/" + glob, path); }))
      tracked.push_back(std::move(path));
  return tracked;
}

/// What the user was last asked about for this destination.
class Shown {
 public:
  explicit Shown(const ArtifactRequest& request)
      : file_(request.scratch / shown_file), destination_(fs::weakly_canonical(request.destination).string()) {}
  std::vector<std::string> paths() const {
    try {
      const auto text = read_file_if_exists(file_, shown_limit_bytes);
      if (!text) return {};
      const auto json = parse_json(*text, file_.string());
      if (require<std::string>(json, "destination") != destination_) return {};
      return require<std::vector<std::string>>(json, "paths");
    } catch (const Error& error) {
      log::warn("sync", "{}", error.what());  // then they are asked again
      return {};
    }
  }
  void remember(const std::vector<AskedFor>& gated) const {
    auto paths = Json::array();
    for (const auto& entry : gated) paths.push_back(entry.path);
    write_file_atomic(file_, dump_json({{"destination", destination_}, {"paths", paths}}));
  }
  void forget() const { fs::remove(file_); }

 private:
  const fs::path file_;
  const std::string destination_;
};

UniqueFd memory_file(const std::string& text) {
  UniqueFd fd(check_errno(::memfd_create("agentvm-request", MFD_CLOEXEC), "memfd_create"));
  write_all(fd.get(), text, Deadline::never());
  check_errno(static_cast<int>(::lseek(fd.get(), 0, SEEK_SET)), "memfd");
  return fd;
}

void show_progress(const Progress& progress, const Json& now) {
  const auto number = [&](const char* key) { return value_or<std::uint64_t>(now, key, 0); };
  const auto all = number("all_bytes"), bytes = std::min(number("bytes"), all);
  report(progress, "artifacts",
         fmt::format("{} of {} files, {} of {}", number("files"), number("all_files"), ByteSize(bytes).str(),
                     ByteSize(all).str()),
         all > 0 ? static_cast<int>(bytes * 100 / all) : -1);
}

/// What the child says, line by line, until it ends.
class Listener {
 public:
  Listener(UniqueFd said, UniqueFd heard, const Progress& progress)
      : said_(std::move(said)), remarks_fd_(std::move(heard)), progress_(progress) {}

  void run(Process& child, const std::stop_token& stop, Deadline deadline) {
    while (said_) {
      pollfd entries[2] = {{said_.get(), POLLIN, 0}, {remarks_fd_.get(), POLLIN, 0}};
      const auto turn = Deadline::after(stop_turn).sooner(deadline);
      if (::poll(entries, 2, turn.poll_timeout()) < 0 && errno != EINTR) throw_errno("poll");
      if (stop.stop_requested() || deadline.expired()) {
        child.send_signal(SIGKILL);
        if (stop.stop_requested()) throw Error(ErrorCode::cancelled, "cancelled; files that had come whole stay");
        throw Error(ErrorCode::timed_out, "bringing the build products did not finish in time");
      }
      if (entries[0].revents) hear();
      if (remarks_fd_ && entries[1].revents) remark();
    }
  }

  std::optional<Json> verdict, error;
  std::string remarks;

 private:
  void hear() {
    char buffer[64u << 10];
    const auto count = ::read(said_.get(), buffer, sizeof buffer);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (count <= 0) return said_.reset();
    line_.append(buffer, static_cast<std::size_t>(count));
    if (line_.size() > line_limit_bytes) throw Error(ErrorCode::operation_failed, "agentvm-artifacts says too much");
    for (std::size_t end; (end = line_.find('\n')) != line_.npos; line_.erase(0, end + 1)) {
      const auto json = parse_json(std::string_view(line_).substr(0, end), "what agentvm-artifacts says");
      if (json.contains("progress")) show_progress(progress_, json["progress"]);
      if (json.contains("verdict")) verdict = json["verdict"];
      if (json.contains("error")) error = json["error"];
    }
  }

  void remark() {
    char buffer[1024];
    const auto count = ::read(remarks_fd_.get(), buffer, sizeof buffer);
    if (count == 0 || (count < 0 && errno != EINTR && errno != EAGAIN)) return remarks_fd_.reset();
    if (count > 0 && remarks.size() < remarks_limit_bytes) remarks.append(buffer, static_cast<std::size_t>(count));
  }

  UniqueFd said_, remarks_fd_;
  const Progress& progress_;
  std::string line_;
};

ReceiveVerdict converse(const ArtifactRequest& request, const ReceiveRequest& asked, int folder,
                        guest::Streams& streams, const Progress& progress, const std::stop_token& stop,
                        Deadline deadline) {
  guest::ExecSpec spec;
  spec.argv = {request.guest_program, "artifacts", request.guest_path, std::to_string(request.limits.files)};
  spec.argv.insert(spec.argv.end(), request.globs.begin(), request.globs.end());
  spec.workdir = "/";
  const auto exec = streams.exec(spec, deadline);
  const auto io = exec->take_io();
  auto said = make_pipe();
  const auto told = memory_file(dump_json(to_json(asked)));
  ProcessSpec child_spec;
  child_spec.argv = {(request.libexec / "agentvm-artifacts").string(), "receive"};
  child_spec.env = std::map<std::string, std::string>{{"LC_ALL", "C"}, {"PATH", "/nonexistent"}};
  child_spec.cwd = "/";
  child_spec.fds = {
      {0, io.get()}, {1, io.get()}, {said_fd, said.second.get()}, {folder_fd, folder}, {request_fd, told.get()}};
  child_spec.die_with_parent = true;
  auto child = Process::spawn(child_spec);
  said.second.reset();
  Listener listener(std::move(said.first), exec->take_err(), progress);
  listener.run(child, stop, deadline);
  const auto status = child.wait(Deadline::after(std::chrono::seconds(5)));
  if (listener.verdict) return receive_verdict_from(*listener.verdict);
  auto message = listener.error ? require<std::string>(*listener.error, "message")
                                : fmt::format("agentvm-artifacts ended without a verdict: {}",
                                              status ? status->describe() : "it did not end");
  if (!listener.remarks.empty())
    message += fmt::format(" (the guest said: {})", clean_guest_text(listener.remarks, Newlines::escape, 300));
  throw Error(listener.error ? error_code_from(value_or<std::string>(*listener.error, "code", ""))
                             : ErrorCode::operation_failed,
              message);
}

}  // namespace

ArtifactOutcome fetch_artifacts(const ArtifactRequest& request, guest::Streams& streams, const Progress& progress,
                                const std::stop_token& stop, Deadline deadline) {
  ensure_private_dir(request.scratch);
  const auto folder = open_destination(request);
  const Shown shown(request);
  ReceiveRequest asked;
  asked.limits = request.limits;
  asked.globs = request.globs;
  asked.gate = request.gate;
  asked.dry_run = request.dry_run;
  asked.tracked = tracked_files(request, deadline);
  if (request.accept) asked.accepted = shown.paths();
  report(progress, "artifacts", "looking for build products in the sandbox");
  ArtifactOutcome outcome;
  outcome.verdict = converse(request, asked, folder.get(), streams, progress, stop, deadline);
  outcome.destination = request.destination;
  outcome.dry_run = request.dry_run;
  if (!outcome.gated()) {
    if (!request.dry_run) shown.forget();
    return outcome;
  }
  // With --accept the verdict names what is new alone; what was accepted stays so for the next question.
  auto remembered = outcome.verdict.gated;
  for (const auto& path : asked.accepted) remembered.push_back({path, ""});
  shown.remember(remembered);
  const auto count = outcome.verdict.gated.size();
  outcome.reason = request.accept
                       ? fmt::format("{} of these came after you were asked", count)
                       : fmt::format("{} file{} would replace what git has, or may run or steer something on your host",
                                     count, count == 1 ? "" : "s");
  outcome.commands = {fmt::format("agentvm sync {} --artifacts --accept", request.sandbox),
                      fmt::format("agentvm sync {} --artifacts --to DIR", request.sandbox)};
  return outcome;
}

Json to_json(const ArtifactOutcome& outcome) {
  constexpr std::size_t listed_limit = 100;
  const auto& verdict = outcome.verdict;
  auto gated = Json::array(), left_out = Json::array(), commands = Json::array();
  for (const auto& entry : verdict.gated) {
    if (gated.size() == listed_limit) break;
    gated.push_back({{"path", clean_guest_text(entry.path)}, {"kind", clean_guest_text(entry.kind)}});
  }
  for (const auto& entry : verdict.left_out)
    left_out.push_back({{"path", clean_guest_text(entry.path)}, {"reason", clean_guest_text(entry.reason)}});
  for (const auto& command : outcome.commands) commands.push_back(command);
  const bool nothing = verdict.files + verdict.links == 0;
  return {{"schema", "agentvm.artifacts/1"},
          {"result", outcome.gated() ? "gated"
                     : nothing       ? "up-to-date"
                                     : "updated"},
          {"dry_run", outcome.dry_run},
          {"destination", outcome.destination.string()},
          {"files", verdict.files},
          {"links", verdict.links},
          {"bytes", verdict.bytes},
          {"unchanged", verdict.unchanged},
          {"gated", gated},
          {"gated_count", verdict.gated.size()},
          {"left_out", left_out},
          {"left_out_count", verdict.left_out_count},
          {"reason", outcome.reason},
          {"commands", commands}};
}

}  // namespace agentvm::sync
