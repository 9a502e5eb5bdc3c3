#pragma once
// Agent programs: what is installed, how it is started without questions, and the scripts that do so in a guest.
//
// Job: definitions (the built-in catalogue, and the user's own files), their validation, and pure text made from them.
// Not its job: running anything. A program is installed into a layer, a disk image of its own that is built once in a
// guest (cli/manager/ops/agent_layers), and shown read-only to every sandbox that uses it; what differs between
// sandboxes (settings in the home folder) is written at the start, and only where nothing is yet. Pure but for
// `agent_definitions`, which reads a folder.

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace agentvm::guest {

/// A package of the npm registry: fetched, compared with its digest and unpacked; none of its scripts runs.
struct AgentPackage {
  std::string name, version;
  std::string sha512;   ///< of the archive; 128 lower-case hex digits
  std::string variant;  ///< "linux-x64" of a version "1.2.3-linux-x64": versions of it are others' with this ending
};

/// A file of the agent user's home, written where there is none yet.
struct AgentFile {
  std::string path;  ///< below the home folder
  std::string content;
};

struct AgentDefinition {
  std::string name;  ///< also the command in the guest
  std::string title;
  std::vector<AgentPackage> packages;
  std::string install;  ///< shell, run in the builder guest in the layer's folder; only of the user's own files
  std::vector<std::string> command;    ///< words that start with "./" are below the layer
  std::vector<std::string> arguments;  ///< always given: what makes it ask no questions
  std::vector<std::string> task, run;  ///< what goes before a task: in a session, and for `agentvm run`
  std::map<std::string, std::string> environment;
  std::vector<AgentFile> files;
  std::vector<std::string> credentials;  ///< where it keeps its login, below a home folder
  std::string origin;                    ///< "built-in", or the file
  std::string defined_version;           ///< of the first package, as the definition itself has it
  /// Whether the user's lock file changed that, and how (locks.hpp).
  enum class Lock { none, updated, pinned } lock = Lock::none;

  /// Of the first package; empty: it has none.
  std::string version() const { return packages.empty() ? "" : packages.front().version; }
  /// Whether there is something to install.
  bool has_layer() const { return !packages.empty() || !install.empty(); }
};

/// Throws `usage` with "file:line:column: reason".
AgentDefinition parse_agent(std::string_view text, const std::string& file);
/// The catalogue and every *.yaml of `own` (may be absent), by name; of two with one name the user's counts. Versions
/// are those of the lock file beside `own`, where it names any.
std::vector<AgentDefinition> agent_definitions(const std::filesystem::path& own);
/// Throws `not_found` with the nearest name.
AgentDefinition find_agent(const std::filesystem::path& own, const std::string& name);

/// 64 hex digits that name what is installed: the same key, the same layer.
std::string layer_key(const AgentDefinition& agent);
/// The serial of the layer's disk: it finds the device in the guest. 20 characters at most.
std::string layer_serial(const std::string& key);

/// The folder of the guest in which the layer is mounted.
std::string layer_folder(const std::string& agent);

/// Run by root in the builder guest: fills `layer_folder` and makes `layer_image` of it. `registry` is a URL.
std::string install_script(const AgentDefinition& agent, const std::string& registry);
inline constexpr const char* layer_image = "/var/tmp/agentvm-layer.ext4";

/// Run by root at each start: mounts the layer and writes the command.
std::string system_script(const AgentDefinition& agent);
/// Run by root at each start: writes `variables` where the command reads them, in memory, for the agent user alone.
std::string variables_script(const std::map<std::string, std::string>& variables);
/// Run by the agent user at each start: its settings.
std::string home_script(const AgentDefinition& agent);

/// Run by the agent user at each start: lends it files of the host's user, in memory. The names that the definition has
/// for them become links there, where the guest has nothing of its own; links of an earlier start go.
std::string credentials_script(const AgentDefinition& agent, const std::vector<AgentFile>& lent);
inline constexpr const char* credentials_folder = "/run/agentvm/credentials";

/// What a session runs: the program, noted for the guest's agent (`session_notes_folder`), then a shell in its place.
std::vector<std::string> session_command(const AgentDefinition& agent, const std::string& session,
                                         const std::vector<std::string>& task);
/// Words for tmux, to follow `new-session` of a session that runs `session_command`: a bell is noted.
std::vector<std::string> bell_words(const std::string& session);
/// The one task of `agentvm run`.
std::vector<std::string> run_command(const AgentDefinition& agent, const std::string& task);

}  // namespace agentvm::guest
