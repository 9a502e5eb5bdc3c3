#include "proxy/egress/secret_values.hpp"

#include <cstdlib>
#include <mutex>
#include <optional>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/crypto.h>
#include <sys/stat.h>

#include "vmm/base/error.hpp"
#include "vmm/base/fd.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/process.hpp"

namespace agentvm::egress {
namespace {

constexpr milliseconds command_limit{30'000};
constexpr std::size_t source_limit_bytes = 64 * 1024, value_limit_bytes = 16 * 1024;

[[noreturn]] void refuse(const std::string& why) {
  throw Error(ErrorCode::operation_failed, why);
}

std::string of_environment(const std::string& variable, const std::map<std::string, std::string>& environment) {
  if (const auto found = environment.find(variable); found != environment.end()) return found->second;
  const char* const value = std::getenv(variable.c_str());
  if (!value)
    refuse(fmt::format("the variable {} was not set where the sandbox was started; agentvm start, with it, gives it",
                       variable));
  return value;
}

std::string of_file(std::string path, const std::string& home) {
  if (path.starts_with("~/")) path = home + path.substr(1);
  // Non-blocking: the name may be a pipe's.
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd) refuse(fmt::format("{}: {}", path, errno_text(errno)));
  struct stat status {};
  check_errno(::fstat(fd.get(), &status), path);
  if (!S_ISREG(status.st_mode)) refuse(path + " is no regular file");
  std::string text(source_limit_bytes + 1, '\0');
  std::size_t have = 0;
  while (have < text.size()) {
    const auto count = read_some(fd.get(), text.data() + have, text.size() - have, Deadline::after(command_limit));
    if (count == 0) break;
    have += count;
  }
  text.resize(have);
  if (have > source_limit_bytes) refuse(path + " is larger than 64 KiB");
  return text;
}

std::string of_command(const std::string& command, const std::string& home) {
  ProcessSpec spec{.argv = {"/bin/sh", "-c", command}, .cwd = home.empty() ? "/" : home};
  spec.die_with_parent = true;
  RunResult result;
  try {
    result = run(spec, Deadline::after(command_limit), {}, source_limit_bytes);
  } catch (const Error& error) {
    // Not the message: it may quote the command, and with it what somebody wrote into that.
    refuse(error.code() == ErrorCode::timed_out ? "its command did not end within 30 seconds"
                                                : "its command cannot be run");
  }
  if (!result.status.ok()) refuse("its command ended with " + result.status.describe());
  return std::move(result.out);
}

}  // namespace

SecretText::~SecretText() {
  OPENSSL_cleanse(text_.data(), text_.size());
}

std::string read_secret(const std::string& from, const std::map<std::string, std::string>& environment,
                        const std::string& home) {
  const auto colon = from.find(':');
  const auto kind = from.substr(0, colon), rest = from.substr(std::min(colon, from.size() - 1) + 1);
  std::string text = kind == "env"    ? of_environment(rest, environment)
                     : kind == "file" ? of_file(rest, home)
                                      : of_command(rest, home);
  text.resize(text.find_last_not_of("\r\n") + 1);
  if (text.empty()) refuse("it is empty");
  if (text.size() > value_limit_bytes) refuse("it is longer than 16 KiB");
  for (const char c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) refuse("it holds control characters, which no header may");
  return text;
}

struct SecretValues::Shared {
  struct Entry {
    std::string from;
    std::shared_ptr<const SecretText> value;
    std::optional<SteadyTime> read_at;
    bool reading = false;
    std::vector<Done> waiting;
    State state;
  };
  std::mutex mutex;  // guards the members below
  std::map<std::string, Entry> entries;
  bool stopping = false;
  Read read;
  Clock* clock = nullptr;
};

SecretValues::SecretValues(std::vector<SecretSource> sources, Read read, Clock& clock)
    : shared_(std::make_shared<Shared>()) {
  for (auto& [name, from] : sources) shared_->entries[name].from = std::move(from);
  shared_->read = std::move(read);
  shared_->clock = &clock;
}

SecretValues::~SecretValues() {
  const std::lock_guard lock(shared_->mutex);
  shared_->stopping = true;
  for (auto& [name, entry] : shared_->entries) entry.waiting.clear();
}

void SecretValues::get(const std::string& name, Done done) {
  std::unique_lock lock(shared_->mutex);
  const auto found = shared_->entries.find(name);
  if (found == shared_->entries.end()) {
    lock.unlock();
    return done(nullptr, "there is no such secret");
  }
  auto& entry = found->second;
  entry.state.last_use = shared_->clock->unix_seconds();
  const auto age = entry.read_at ? shared_->clock->steady() - *entry.read_at : SteadyTime::duration::max();
  if (!entry.reading && age < (entry.value ? fresh : retry)) {
    const auto value = entry.value;
    const auto problem = entry.state.problem;
    lock.unlock();
    return done(value, problem);
  }
  entry.waiting.push_back(std::move(done));
  if (entry.reading) return;
  entry.reading = true;
  entry.value.reset();
  // A read cannot be ended, and a command has half a minute: it goes on by itself, with nothing of ours.
  std::thread([shared = shared_, name] { read_one(shared, name); }).detach();
}

void SecretValues::read_one(const std::shared_ptr<Shared>& shared, const std::string& name) {
  std::string from;
  {
    const std::lock_guard lock(shared->mutex);
    from = shared->entries.at(name).from;
  }
  std::shared_ptr<const SecretText> value;
  std::string problem;
  try {
    value = std::make_shared<const SecretText>(shared->read(from));
  } catch (const Error& error) {
    problem = error.message();
    log::warn("secrets", "the secret {} cannot be read: {}", name, problem);
  } catch (const std::exception&) {
    problem = "it cannot be read";
  }
  std::unique_lock lock(shared->mutex);
  auto& entry = shared->entries.at(name);
  entry.reading = false;
  if (shared->stopping) return;
  entry.value = value;
  entry.read_at = shared->clock->steady();
  entry.state.kind = value ? State::Kind::ok : State::Kind::failed;
  entry.state.problem = problem;
  // Under the lock, so that nobody is called after the destructor; they only post.
  for (const auto& done : std::exchange(entry.waiting, {})) done(value, problem);
}

std::map<std::string, SecretValues::State> SecretValues::states() const {
  const std::lock_guard lock(shared_->mutex);
  std::map<std::string, State> states;
  for (const auto& [name, entry] : shared_->entries) states.emplace(name, entry.state);
  return states;
}

std::string_view to_string(SecretValues::State::Kind kind) {
  switch (kind) {
    case SecretValues::State::Kind::not_asked:
      return "not-asked";
    case SecretValues::State::Kind::ok:
      return "ok";
    case SecretValues::State::Kind::failed:
      return "failed";
  }
  return "failed";
}

}  // namespace agentvm::egress
