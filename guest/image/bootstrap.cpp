#include "guest/image/bootstrap.hpp"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <optional>
#include <sstream>

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include "guest/image/follow.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/process.hpp"
#include "vmm/base/text.hpp"

namespace agentvm {
namespace {

// Our own hooks, not the recipe's. Paths reach them as environment variables: nothing is quoted into shell text.
constexpr const char* fill_cache =
    "mkdir -p \"$1/var/cache/apt/archives/partial\" && find \"$AGENTVM_PACKAGES\" -name '*.deb' -exec ln -t "
    "\"$1/var/cache/apt/archives\" {} +";
constexpr const char* keep_cache =
    "find \"$1/var/cache/apt/archives\" -maxdepth 1 -name '*.deb' -exec cp -ln -t \"$AGENTVM_PACKAGES\" {} +";
// The package that a meta package such as linux-image-cloud-amd64 depends on, or the named one; from the cache if it is
// there.
constexpr const char* fetch_kernel = R"(set -e
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
cd "$AGENTVM_KERNEL_FOLDER"
name=$(apt-cache depends --important "$AGENTVM_KERNEL" | sed -n 's/^ *Depends: \(linux-image-[^<]*\)$/\1/p' | head -n 1)
name=${name:-$AGENTVM_KERNEL}
file=$(apt-get -q --print-uris download "$name" | sed -n "s/^'[^']*' \([^ ]*\) .*/\1/p" | head -n 1)
if [ -f "$AGENTVM_PACKAGES/$file" ]; then ln "$AGENTVM_PACKAGES/$file" "$file"; fi
apt-get -q -o APT::Sandbox::User=root download "$name"
cp -ln "$file" "$AGENTVM_PACKAGES/")";

/// A proxy that apt on the host uses is needed here, too. As environment it stays out of the image (it may hold a
/// password).
void add_apt_proxy(std::map<std::string, std::string>& env) {
  for (const auto* scheme : {"http", "https"}) {
    const auto variable = std::string(scheme) + "_proxy";
    if (env.contains(variable)) continue;
    try {
      const auto name = fmt::format("Acquire::{}::Proxy", scheme);
      auto value =
          run_checked({.argv = {"apt-config", "shell", "value", name}}, Deadline::after(std::chrono::seconds(10)));
      // value='http://...'
      const auto open = value.find('\''), close = value.rfind('\'');
      if (open != std::string::npos && close > open + 1) env[variable] = value.substr(open + 1, close - open - 1);
    } catch (const Error&) {
      return;  // no apt-config: apt has no settings either
    }
  }
}

std::map<std::string, std::string> environment(const Recipe& recipe, const BootstrapRequest& request) {
  std::map<std::string, std::string> env = {
      {"PATH", "/usr/sbin:/usr/bin:/sbin:/bin"}, {"LC_ALL", "C.UTF-8"},
      {"DEBIAN_FRONTEND", "noninteractive"},     {"HOME", "/nonexistent"},
      {"TMPDIR", request.scratch.string()},      {"AGENTVM_PACKAGES", request.packages.string()},
      {"AGENTVM_KERNEL", recipe.kernel},         {"AGENTVM_KERNEL_FOLDER", request.kernel_folder.string()}};
  for (const auto* name : {"http_proxy", "https_proxy", "no_proxy"})
    if (const char* value = std::getenv(name); value && *value) env[name] = value;
  add_apt_proxy(env);
  return env;
}

std::vector<std::string> command(const Recipe& recipe, const BootstrapRequest& request) {
  std::vector<std::string> argv = {
      "mmdebstrap", "--mode=root", "--format=directory", "--variant=apt", "--verbose",
      // What shapes the unpacking stands in the image's own dpkg.cfg.d, too.
      "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/info/*",
      "--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=path-exclude=/usr/share/doc/*",
      "--dpkgopt=path-include=/usr/share/doc/*/copyright",
      // A tree that a crash cuts short is thrown away: no fsync per file.
      "--dpkgopt=force-unsafe-io", "--aptopt=APT::Install-Recommends \"false\"", "--aptopt=Acquire::Languages \"none\"",
      "--aptopt=Acquire::Retries \"3\"", "--skip=essential/unlink,download/empty"};
  argv.push_back(fmt::format("--setup-hook={}", fill_cache));
  argv.push_back(fmt::format("--customize-hook={}", keep_cache));
  argv.push_back(fmt::format("--customize-hook={}", fetch_kernel));
  argv.push_back(fmt::format("--include={}", fmt::join(recipe.packages, ",")));
  argv.insert(argv.end(), {recipe.suite, request.tree.string(), "-"});
  return argv;
}

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

std::string last_line_with(std::string_view log, std::initializer_list<std::string_view> starts) {
  std::string found;
  std::istringstream lines{std::string(log)};
  for (std::string line; std::getline(lines, line);)
    for (const auto start : starts)
      if (line.starts_with(start)) found = line;
  return found;
}

}  // namespace

void AptProgress::line(std::string_view text) {
  const auto phase = [&](std::string name) { phase_ = std::move(name); };
  if (const auto newly = text.find(" newly installed, "); newly != std::string_view::npos) {
    const auto comma = text.find(", ");
    if (comma < newly) expected_ += std::atoi(std::string(text.substr(comma + 2, 8)).c_str());
  } else if (text.starts_with("Get:")) {
    phase("fetching packages");
  } else if (text.starts_with("Unpacking ")) {
    ++unpacked_;
    phase("unpacking packages");
  } else if (text.starts_with("Setting up ")) {
    ++set_up_;
    phase("setting up packages");
  } else {
    return;
  }
  // 5 % for the lists, 75 % for packages; the essential ones come first and are not announced, hence at least 60.
  const int steps = 2 * std::max({expected_, 60, unpacked_});
  const int percent = 5 + std::min(75, (unpacked_ + set_up_) * 75 / steps);
  if (percent <= shown_) return;
  shown_ = percent;
  report(progress_, "image-packages", phase_, percent);
}

namespace {

/// apt's words for a source that cannot be reached, as in "E: Failed to fetch URL  Could not resolve ...".
std::optional<Error> unreachable_source(std::string_view log, const std::string& what) {
  constexpr std::string_view start = "E: Failed to fetch ", between = "  ";
  const auto line = last_line_with(log, {start});
  if (line.empty()) return std::nullopt;
  const auto end = std::min(line.find(between, start.size()), line.size());
  const auto why = std::string_view(line).substr(std::min(end + between.size(), line.size()));
  for (const auto* words : {"Temporary failure resolving", "Could not resolve", "Could not connect",
                            "Unable to connect", "Connection timed out", "Connection failed", "Network is unreachable"})
    if (contains(why, words)) {
      const auto uri = clean_guest_text(line.substr(start.size(), end - start.size()), Newlines::escape, 300);
      return Error(ErrorCode::host_lacks,
                   fmt::format("{}: the package source cannot be reached: {}", what,
                               clean_guest_text(why, Newlines::escape, 300)),
                   "curl -I " + shell_word(uri));
    }
  return std::nullopt;
}

}  // namespace

Error explain_failure(std::string_view log, const std::string& what, const fs::path& log_file) {
  const auto hint = fmt::format("less {}", log_file.string());
  if (contains(log, "No space left on device") || contains(log, "Could not allocate block"))
    return Error(ErrorCode::host_lacks, what + ": the disk is full",
                 fmt::format("df -h {}", log_file.parent_path().string()));
  if (contains(log, "Disk quota exceeded"))
    return Error(ErrorCode::host_lacks, what + ": the disk quota is used up", "quota");
  if (contains(log, "401  Unauthorized") || contains(log, "407  "))
    return Error(ErrorCode::host_lacks,
                 what + ": the package source asks for a password, and credentials of the host never enter an image",
                 hint);
  if (auto unreachable = unreachable_source(log, what)) return *unreachable;
  auto cause = last_line_with(log, {"E: Unable to locate", "E: Package ", "E: Failed to fetch",
                                    "Err:", "E: The repository", "dpkg: error", "mke2fs: "});
  if (cause.empty()) cause = last_line_with(log, {"E: ", "newuidmap: ", "newgidmap: ", "unshare: "});
  if (cause.empty()) cause = "see the log";
  return Error(ErrorCode::operation_failed, what + ": " + clean_guest_text(cause, Newlines::escape, 500), hint);
}

void install_packages(const Recipe& recipe, const BootstrapRequest& request, const Progress& progress,
                      Deadline deadline) {
  report(progress, "image-packages", "reading the package lists", 2);
  auto input = make_pipe(), output = make_pipe();
  const auto log = open_file(request.log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  auto child = Process::spawn({.argv = command(recipe, request),
                               .env = environment(recipe, request),
                               .cwd = request.scratch.string(),
                               .fds = {{0, input.first.get()}, {1, output.second.get()}, {2, output.second.get()}}});
  input.first.reset();
  output.second.reset();
  write_all(input.second.get(), request.sources, deadline);
  input.second.reset();

  AptProgress apt(progress);
  const auto status =
      follow_lines(child, output.first.get(), deadline, "installing the packages", [&](std::string_view line) {
        write_all(log.get(), std::string(line) + "\n", deadline);
        apt.line(line);
      });
  if (!status.ok())
    throw explain_failure(read_tail(request.log, 256 << 10), "installing the packages failed", request.log);
}

}  // namespace agentvm
