#pragma once
// The values of secrets: read on this host when a request first needs one, kept in memory for a minute, wiped when
// replaced. They are in no file, message or log of ours.

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "vmm/base/clock.hpp"

namespace agentvm::egress {

/// A text that is wiped when its last owner lets it go.
class SecretText {
 public:
  explicit SecretText(std::string text) : text_(std::move(text)) {}
  ~SecretText();
  SecretText(const SecretText&) = delete;
  SecretText& operator=(const SecretText&) = delete;
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

/// Where a value comes from.
struct SecretSource {
  std::string name;  ///< the user's word for the secret
  std::string from;  ///< "env:VARIABLE", "file:PATH" or "command:WORDS"
};

/// Reads `from` once: a variable of `environment` or else of this process; a file, at most 64 KiB, ~/ being `home`;
/// what a command prints, run by sh in `home`, 30 s at most. Less the newlines at the end. Throws `operation_failed`
/// saying why not, never with a part of it: also for an empty value, one above 16 KiB and one with control characters,
/// which no header may hold.
std::string read_secret(const std::string& from, const std::map<std::string, std::string>& environment,
                        const std::string& home);

/// Thread-safe. What is read at the time of destruction is forgotten when it comes, and nobody is called.
class SecretValues {
 public:
  static constexpr milliseconds fresh{60'000};  ///< then it is read again, when it is needed
  static constexpr milliseconds retry{5'000};   ///< after a failure: a guest that asks again and again runs no storm
  using Read = std::function<std::string(const std::string& from)>;
  /// Exactly one of both: the value, or why there is none.
  using Done = std::function<void(std::shared_ptr<const SecretText> value, const std::string& problem)>;

  SecretValues(std::vector<SecretSource> sources, Read read, Clock& clock);
  ~SecretValues();

  /// Calls `done` once, in this thread or another: at once for a value that is fresh. One read of a source at a time;
  /// who asks meanwhile shares its answer.
  void get(const std::string& name, Done done);

  struct State {
    enum class Kind { not_asked, ok, failed } kind = Kind::not_asked;
    std::string problem;        ///< with `failed`
    std::int64_t last_use = 0;  ///< seconds since 1970 when a request last asked; 0: never
  };
  std::map<std::string, State> states() const;

 private:
  struct Shared;
  static void read_one(const std::shared_ptr<Shared>& shared, const std::string& name);
  std::shared_ptr<Shared> shared_;
};
std::string_view to_string(SecretValues::State::Kind kind);

}  // namespace agentvm::egress
