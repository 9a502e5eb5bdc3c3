// Stands where agentvm-manager stands: the product's server with the product's two operations for git-remote-agentvm,
// over guests that are repositories of this machine. The sandbox's name is the repository's path, as git's own tests
// write it; git-upload-pack runs here instead of in a guest. Everything behind that stream is the product's.

#include "cli/manager/ops/pull.hpp"
#include "tests/support/fake_streams.hpp"
#include "tests/support/stand_in_manager.hpp"

namespace {

using namespace agentvm;
using manager::CallContext;

/// A relative path is one from where git works, a file:// address the path in it.
fs::path repository_of(const Json& params) {
  auto name = value_or<std::string>(params, "name", "");
  if (constexpr std::string_view scheme = "file://"; name.starts_with(scheme)) name = name.substr(scheme.size());
  return fs::path(require<std::string>(params, "cwd")) / name;
}

manager::SandboxWork work_for(const Paths& paths, const Json& params, const char* scratch) {
  const auto repository = repository_of(params);
  manager::SandboxWork work;
  work.name = value_or<std::string>(params, "name", "");
  work.request.guest_path = repository.string();
  work.request.libexec = paths.libexec;
  // One folder for each sandbox: scripts that run beside each other do not wait for each other.
  work.request.scratch =
      paths.state / fmt::format("{}-{:x}", scratch, std::hash<std::string>()(repository.lexically_normal().string()));
  return work;
}

void add_operations(manager::Service& service, const Paths& paths, test::FakeStreams& streams) {
  const auto deadline = [] { return Deadline::after(std::chrono::seconds(60)); };
  service.add("remote.list", manager::Lane::work, [&paths, &streams, deadline](CallContext& call, const Json& params) {
    manager::refuse_guest_repository(paths, value_or<std::string>(params, "git_dir", ""));
    return manager::answer_list(work_for(paths, params, "list"), call, streams, deadline());
  });
  service.add("remote.fetch", manager::Lane::work, [&paths, &streams, deadline](CallContext& call, const Json& params) {
    return manager::answer_fetch(work_for(paths, params, "fetch"), manager::target_repository(paths, params), call,
                                 streams, deadline());
  });
}

int serve(int count, char** words) {
  manager::ManagerOptions options;
  options.paths = resolve_paths();
  options.work_threads = 4;
  test::FakeStreams streams;
  return test::run_stand_in(options, count, words, [&streams](manager::Service& service, const Paths& paths) {
    add_operations(service, paths, streams);
  });
}

}  // namespace

int main(int count, char** words) {
  return test::report_failure("gitsuite manager", [&] { return serve(count, words); });
}
