#include "tests/fault/sync/fault_fixture.hpp"

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "tests/fault/sync/shim.hpp"
#include "tests/support/tier.hpp"
#include "vmm/base/error.hpp"
#include "vmm/base/fd.hpp"
#include "vmm/base/file_lock.hpp"
#include "vmm/base/process.hpp"

namespace agentvm::test {
namespace {

void copy_tree(const fs::path& from, const fs::path& to) {
  remove_tree(to);
  const auto result = agentvm::run({.argv = {"cp", "-a", from, to}}, Deadline::after(std::chrono::seconds(60)));
  if (!result.status.ok()) throw std::runtime_error(result.err);
}

}  // namespace

FaultFixture::FaultFixture() : host(dir / "host"), guest(dir / "guest") {
  fs::create_directory(dir / "libexec");
  for (const char* program : {"agentvm-git", "agentvm-artifacts"}) wrap(program);
  fs::create_symlink(fs::path(AGENTVM_TEST_LIBEXEC) / "agentvm-guest", dir / "libexec/agentvm-guest");
}

/// Our children get an environment that we choose: the shim enters by a program of the same name.
void FaultFixture::wrap(const std::string& program) const {
  const auto path = dir / "libexec" / program;
  write_file_atomic(path, fmt::format("#!/bin/sh\nexec /usr/bin/env LD_PRELOAD={} AGENTVM_FAULT_PLAN={} {} \"$@\"\n",
                                      AGENTVM_TEST_SHIM, (dir / "plan").string(),
                                      (fs::path(AGENTVM_TEST_LIBEXEC) / program).string()));
  check_errno(::chmod(path.c_str(), 0700), path.string());
}

FaultFixture::Run FaultFixture::step(const std::string& name, int at, Fault fault, Among among) {
  const auto file = dir / "plan";
  const UniqueFd fd(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  check_errno(::ftruncate(fd.get(), sizeof(FaultPlan)), "ftruncate");
  void* map = ::mmap(nullptr, sizeof(FaultPlan), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  auto* plan = new (map) FaultPlan{0, 0, at, fault == Fault::kill ? 1 : 0, among == Among::all_but_git ? 1 : 0, 0};
  ProcessSpec spec;
  spec.argv = {AGENTVM_TEST_DRIVER, name, host.path(), guest.path(), dir / "scratch", dir / "libexec"};
  spec.env = std::map<std::string, std::string>{{"PATH", std::getenv("PATH")},
                                                {"HOME", "/nonexistent"},
                                                {"LD_PRELOAD", AGENTVM_TEST_SHIM},
                                                {"AGENTVM_FAULT_PLAN", file}};
  spec.die_with_parent = true;
  std::jthread killer([plan](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      if (const int group = plan->to_kill; group > 1) ::kill(-group, SIGKILL);
      std::this_thread::sleep_for(milliseconds(1));
    }
  });
  const auto result = agentvm::run(spec, Deadline::after(std::chrono::seconds(120)));
  killer.request_stop();
  killer.join();
  Run outcome{result.status.code, result.status.signal, plan->calls, plan->confined, result.err};
  ::munmap(map, sizeof(FaultPlan));
  FileLock::acquire(guest.path().string() + ".busy", Deadline::after(std::chrono::seconds(30)));
  return outcome;
}

void FaultFixture::keep_templates() {
  for (const char* name : {"host", "guest"}) copy_tree(dir / name, dir / (std::string(name) + ".template"));
}

void FaultFixture::restore() {
  for (const char* name : {"host", "guest"}) copy_tree(dir / (std::string(name) + ".template"), dir / name);
  remove_tree(dir / "scratch");
}

void FaultFixture::sweep(const std::string& name, Fault fault, Among among, int points,
                         const std::function<void(const Run& failed)>& check) {
  restore();
  const auto whole = step(name, 0, fault, among);
  ASSERT_EQ(whole.code, 0) << whole.said;
  ASSERT_GT(whole.calls, 3);
  const int stride = full_tier() ? 1 : std::max(1, whole.calls / points);
  int hits = 0;
  for (int at = 1; at <= whole.calls; at += stride) {
    restore();
    const auto failed = step(name, at, fault, among);
    const bool killed = failed.signal == SIGKILL;
    if (fault == Fault::kill ? killed : failed.code != 0) ++hits;
    SCOPED_TRACE(fmt::format("{} {} of {}: {}", fault == Fault::kill ? "killed at" : "no space from", at, whole.calls,
                             failed.said));
    EXPECT_EQ(killed, fault == Fault::kill) << failed.signal << " " << failed.code;
    check(failed);
    if (HasFailure()) return;
  }
  EXPECT_GT(hits, 0);
  RecordProperty(name + "_calls", whole.calls);
  RecordProperty(name + "_confined_calls", whole.confined);
}

void FaultFixture::expect_nothing_left() const {
  for (const auto& left : fs::directory_iterator(dir / "scratch")) {
    const auto name = left.path().filename().string();
    EXPECT_TRUE(name == "sync.lock" || name.ends_with(".json") || name.ends_with(".lock")) << name;
  }
  std::error_code none;
  for (const auto& left : fs::directory_iterator(host.path() / ".git/agentvm", none))
    EXPECT_EQ(left.path().filename(), "guard");
  for (const auto& left : fs::recursive_directory_iterator(host.path() / ".git")) {
    EXPECT_NE(left.path().extension(), ".lock") << left.path();
    EXPECT_NE(left.path().extension(), ".keep") << left.path();
    EXPECT_FALSE(left.path().filename().string().starts_with("tmp_")) << left.path();
  }
}

}  // namespace agentvm::test
