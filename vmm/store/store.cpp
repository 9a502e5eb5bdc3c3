#include "vmm/store.hpp"

#include <algorithm>
#include <cerrno>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/files.hpp"
#include "vmm/base/nearest.hpp"
#include "vmm/base/text.hpp"

namespace agentvm {
namespace {

constexpr std::size_t record_limit_bytes = 1u << 20;
constexpr std::string_view new_prefix = ".new-", gone_prefix = ".gone-";

/// A lock on the folder itself: no lock file to leave behind, and gone with the folder.
UniqueFd lock_folder(const fs::path& folder, Deadline deadline) {
  for (;;) {
    auto fd = open_file(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    while (::flock(fd.get(), LOCK_EX | LOCK_NB) < 0) {
      if (errno == EINTR) continue;
      if (errno != EWOULDBLOCK) throw_errno(folder.string());
      if (deadline.expired())
        throw Error(ErrorCode::timed_out, fmt::format("{} is being changed by another process", folder.string()),
                    "agentvm manager status");
      std::this_thread::sleep_for(milliseconds(5));
    }
    // While we waited, it may have been removed and made anew: then we hold a lock on nothing.
    struct stat held {
    }, named{};
    check_errno(::fstat(fd.get(), &held), folder.string());
    if (::lstat(folder.c_str(), &named) == 0 && held.st_ino == named.st_ino && held.st_dev == named.st_dev) return fd;
  }
}

bool rename_to_free_name(const fs::path& from, const fs::path& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return true;
  if (errno == EEXIST || errno == ENOTEMPTY) return false;
  throw_errno("creating " + to.string());
}

std::vector<std::string> folder_names(const fs::path& path) {
  std::vector<std::string> names;
  std::error_code problem;
  for (fs::directory_iterator entry(path, problem), end; !problem && entry != end; entry.increment(problem))
    names.push_back(entry->path().filename().string());
  if (problem && problem != std::errc::no_such_file_or_directory) throw_errno(path.string(), problem.value());
  std::sort(names.begin(), names.end());
  return names;
}

std::optional<SandboxName> as_name(const std::string& text) {
  try {
    return SandboxName::parse(text);
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace

Store::Store(const fs::path& state) : sandboxes_(state / "sandboxes") {}

fs::path Store::folder(const SandboxName& name) const {
  return sandboxes_ / name.str();
}

SandboxRecord Store::read(const SandboxName& name) const {
  const auto path = folder(name) / sandbox_files::record;
  try {
    auto record = record_from_json(parse_json(read_file(path, record_limit_bytes), path.string()));
    if (record.name != name)
      throw Error(ErrorCode::operation_failed, fmt::format("the record names '{}'", record.name.str()));
    return record;
  } catch (Error& error) {
    // Whatever is wrong inside, it is this record that is broken; `not_found` and `usage` would tell the caller
    // something else.
    auto hint = error.hint().empty() ? fmt::format("less {}", path.string()) : error.hint();
    throw Error(
        ErrorCode::operation_failed,
        fmt::format("the record of sandbox '{}' cannot be used: {}", name.str(), clean_guest_text(error.what())),
        std::move(hint));
  }
}

void Store::write(const fs::path& folder, const SandboxRecord& record) const {
  write_file_atomic(folder / sandbox_files::record,
                    record_to_json(record).dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

StoreListing Store::list() const {
  StoreListing listing;
  for (const auto& text : folder_names(sandboxes_)) {
    const auto name = as_name(text);
    if (!name) {
      if (!text.starts_with('.'))
        listing.broken.push_back({text, Error(ErrorCode::operation_failed, fmt::format("{} is not a sandbox's folder",
                                                                                       (sandboxes_ / text).string()))});
      continue;
    }
    try {
      listing.records.push_back(read(*name));
    } catch (const Error& error) {
      std::error_code ignored;
      if (fs::exists(folder(*name), ignored))
        listing.broken.push_back({text, error});  // else removed between listing and reading
    }
  }
  return listing;
}

std::optional<SandboxRecord> Store::find(const SandboxName& name) const {
  std::error_code ignored;
  if (!fs::exists(fs::symlink_status(folder(name), ignored))) return std::nullopt;
  return read(name);
}

SandboxRecord Store::get(const SandboxName& name) const {
  if (auto record = find(name)) return std::move(*record);
  const auto names = folder_names(sandboxes_);
  std::vector<std::string_view> candidates;
  for (const auto& text : names)
    if (!text.starts_with('.')) candidates.push_back(text);
  const auto nearest = nearest_word(name.str(), candidates);
  throw Error(ErrorCode::not_found,
              fmt::format("no sandbox is named '{}'{}", name.str(),
                          nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest)),
              "agentvm list");
}

std::vector<SandboxRecord> Store::find_by_project(const fs::path& root) const {
  auto records = list().records;
  std::erase_if(records, [&](const SandboxRecord& record) { return record.project != root; });
  return records;
}

std::vector<SandboxRecord> Store::meant_by_project(const fs::path& root) const {
  auto all = find_by_project(root);
  const auto kept = [](const SandboxRecord& record) { return !record.throw_away; };
  if (std::any_of(all.begin(), all.end(), kept)) std::erase_if(all, std::not_fn(kept));
  return all;
}

SandboxRecord Store::create(SandboxRecord record) {
  ensure_private_dir(sandboxes_);
  const auto making = sandboxes_ / (std::string(new_prefix) + random_hex(6));
  const auto wanted = record.name;
  constexpr int attempts = 100;
  constexpr std::size_t suffix_bytes = 2;
  try {
    check_errno(::mkdir(making.c_str(), 0700), "creating " + making.string());
    for (int attempt = 0; attempt < attempts; ++attempt) {
      record.name = attempt == 0 ? wanted : wanted.with_suffix(random_hex(suffix_bytes));
      write(making, record);
      if (!rename_to_free_name(making, folder(record.name))) continue;
      sync_dir(sandboxes_);
      return record;
    }
    throw Error(ErrorCode::operation_failed, fmt::format("no free name like '{}' was found", wanted.str()),
                "agentvm list");
  } catch (Error& error) {
    try {
      remove_tree(making);
    } catch (const Error&) {
      // `sweep` takes it; the first error is the one to tell
    }
    error.while_doing(fmt::format("creating sandbox '{}'", wanted.str()));
    throw;
  }
}

SandboxRecord Store::update(const SandboxName& name, const std::function<void(SandboxRecord&)>& change,
                            Deadline deadline) {
  UniqueFd lock;
  try {
    lock = lock_folder(folder(name), deadline);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::not_found) throw;
    return get(name);  // throws the better text
  }
  auto record = read(name);
  const auto id = record.id;
  change(record);
  if (record.id != id || record.name != name)
    throw Error(ErrorCode::operation_failed, fmt::format("id and name of sandbox '{}' cannot be changed", name.str()));
  try {
    write(folder(name), record);
  } catch (Error& error) {
    error.while_doing(fmt::format("recording the state of sandbox '{}'", name.str()));
    throw;
  }
  return record;
}

void Store::remove(const SandboxName& name, Deadline deadline) {
  const auto going = sandboxes_ / (std::string(gone_prefix) + random_hex(6));
  {
    UniqueFd lock;
    try {
      lock = lock_folder(folder(name), deadline);
    } catch (const Error& error) {
      if (error.code() == ErrorCode::not_found) return;
      throw;
    }
    check_errno(::rename(folder(name).c_str(), going.c_str()), "removing sandbox '" + name.str() + "'");
  }
  sync_dir(sandboxes_);
  remove_tree(going);
}

void Store::sweep() {
  for (const auto& text : folder_names(sandboxes_)) {
    if (text.starts_with(new_prefix) || text.starts_with(gone_prefix)) {
      remove_tree(sandboxes_ / text);
      continue;
    }
    const auto name = as_name(text);
    if (!name) continue;
    // A killed writer leaves ".record.json.<random>" beside the record; under the lock nobody is writing.
    const auto lock = lock_folder(folder(*name), Deadline::after(std::chrono::seconds(10)));
    const auto temporary = fmt::format(".{}.", sandbox_files::record);
    for (const auto& file : folder_names(folder(*name)))
      if (file.starts_with(temporary)) remove_tree(folder(*name) / file);
  }
}

SandboxRecord resolve_sandbox(const Store& store, const std::optional<SandboxName>& name, const fs::path& cwd) {
  if (name) return store.get(*name);
  Project project;
  try {
    project = find_project(cwd);
  } catch (Error& error) {
    if (error.code() == ErrorCode::not_found) error.with_hint("agentvm list");
    throw;
  }
  auto records = store.meant_by_project(project.root);
  if (records.size() == 1) return std::move(records.front());
  if (records.empty()) {
    // A broken record may be this project's: saying "none" would lead to a second sandbox.
    const auto broken = store.list().broken;
    for (const auto& entry : broken)
      if (entry.name == SandboxName::derive(project.root.filename().string()).str()) throw entry.error;
    throw Error(ErrorCode::not_found, fmt::format("no sandbox belongs to {}", project.root.string()), "agentvm start");
  }
  std::vector<std::string> names;
  for (const auto& record : records) names.push_back(record.name.str());
  throw Error(ErrorCode::usage,
              fmt::format("{} sandboxes belong to {}: {}; name one", names.size(), project.root.string(),
                          fmt::join(names, ", ")),
              fmt::format("agentvm status {}", names.front()));
}

}  // namespace agentvm
