#include "cli/manager/ops/recordings.hpp"

#include <fmt/format.h>

#include "cli/manager/ops/recording_files.hpp"
#include "cli/manager/ops/requests.hpp"
#include "cli/manager/ops/sessions.hpp"
#include "cli/manager/ops/worktrees.hpp"
#include "guest/protocol/recording.hpp"
#include "vmm/base/file_lock.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/text.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds ask_limit{10'000};
constexpr milliseconds prepare_limit{5'000};  // whoever attaches waits for it
constexpr milliseconds keep_pause{60'000};
constexpr std::size_t answer_bytes = 768u << 10;
constexpr std::size_t line_bytes = 4096;  // what goes before pieces, of all of them
/// What a guest has at most, in answers of that size.
constexpr std::size_t most_answers = guest::recording_segments * 2 + 2;

fs::path folder_of(Core& core, const SandboxRecord& record, const std::string& session) {
  return core.store().folder(record.name) / sandbox_files::terminals / session;
}

std::int64_t now_ms() {
  return system_clock().unix_seconds() * 1000;
}

/// A copy of what the guest's agent runs: the initramfs that it came from is gone.
void install_program(guest::Control& control, Deadline deadline) {
  constexpr std::size_t words_limit_bytes = 1024;
  const auto result = control.exec({.argv = {"/proc/self/exe", "install", guest::guest_program_copy}, .cwd = "/"},
                                   deadline, words_limit_bytes);
  if (!result.ok())
    throw Error(ErrorCode::operation_failed, "the guest's agent makes no copy of its program: " +
                                                 clean_guest_text(result.err, Newlines::escape, 300));
}

/// What the guest has after `end`. Its program is there from the first session of a boot on.
std::string ask(guest::Control& control, const std::string& session, const RecordingEnd& end, Deadline deadline) {
  const guest::ControlExec spec{.argv = {guest::guest_program_copy, "recording", session, end.segment,
                                         std::to_string(end.size_bytes), std::to_string(answer_bytes)},
                                .cwd = "/",
                                .user = "agent"};
  const auto run = [&] { return control.exec(spec, deadline, answer_bytes + line_bytes); };
  guest::ControlResult result;
  try {
    result = run();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::host_lacks) throw;
    install_program(control, deadline);
    result = run();
  }
  if (!result.ok())
    throw Error(ErrorCode::operation_failed,
                "the guest does not send its recording: " + clean_guest_text(result.err, Newlines::escape, 300));
  return std::move(result.out);
}

}  // namespace

std::vector<std::string> recording_words(const std::string& session) {
  // The lowest window is the one that the session began with. The terminal's path is asked for its size.
  const auto target = fmt::format("={}:^", session);
  const auto command = fmt::format("pipe-pane -t {} \"exec {} record {} '#{{pane_tty}}'\"", shell_word(target),
                                   guest::guest_program_copy, session);
  return {";", "if-shell", "-F", "-t", target, "#{?pane_pipe,,1}", command};
}

std::string tmux_word(std::string word) {
  if (word.ends_with(';')) word.insert(word.size() - 1, 1, '\\');
  return word;
}

void prepare_recording(LiveSandbox& live) {
  try {
    if (const auto control = live.control()) install_program(*control, Deadline::after(prepare_limit));
  } catch (const Error& error) {
    log::info("recording", "{}: its terminals are not recorded: {}", live.endpoint().name, error.what());
  }
}

void fetch_recording(Core& core, const SandboxRecord& record, LiveSandbox& live, const std::string& session,
                     Deadline deadline) {
  const auto control = live.control();
  if (!control) throw Error(ErrorCode::operation_failed, "the guest's agent does not answer");
  const auto folder = folder_of(core, record, session);
  ensure_private_dir(folder.parent_path());
  const auto lock = FileLock::acquire(folder.parent_path() / "lock", deadline);
  for (std::size_t i = 0; i < most_answers; ++i) {
    const auto answer = ask(*control, session, recording_end(folder), deadline);
    if (answer.empty() || !add_to_recording(folder, answer, now_ms())) return;
  }
}

void keep_recordings(Core& core, const SandboxRecord& record) {
  const auto live = core.live(record.name);
  if (!live || live->silent()) return;
  const auto deadline = Deadline::after(ask_limit);
  std::vector<std::string> sessions{session_name(record)};
  for (const auto& worktree : record.worktrees)
    if (!worktree.branch.empty()) sessions.push_back(worktree_session(record, worktree.branch));
  try {
    for (const auto& session : sessions) fetch_recording(core, record, *live, session, deadline);
  } catch (const Error& error) {
    log::debug("recording", "{}: {}", record.name.str(), error.what());  // a guest of an older image has none
  }
}

void keep_recordings_in_time(Core& core) {
  core.janitor().post_later(keep_pause, "recordings", [&core] {
    for (const auto& record : core.store().list().records)
      if (record.state == SandboxState::running && core.live(record.name))
        core.janitor().post("recording of " + record.name.str(), [&core, record] { keep_recordings(core, record); });
    keep_recordings_in_time(core);
  });
}

Json recording(Core& core, const Json& params) {
  const auto record = core.as_seen(core.resolve(params));
  const auto branch = optional_text(params, "worktree");
  const auto session = branch ? worktree_session(record, *branch) : session_name(record);
  Json answer{{"schema", "agentvm.recording/1"},
              {"name", record.name.str()},
              {"session", session},
              {"live", record.state == SandboxState::running},
              {"folder", folder_of(core, record, session).string()},
              {"problem", nullptr}};
  if (record.state != SandboxState::running) return answer;
  try {
    fetch_recording(core, record, *running_sandbox(core, params).second, session, Deadline::after(ask_limit));
  } catch (const Error& error) {
    answer["problem"] = error.what();
  }
  return answer;
}

}  // namespace agentvm::manager
