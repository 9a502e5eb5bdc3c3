#include "vmm/libvirt/libvirt_hypervisor.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <mutex>

#include <fmt/format.h>
#include <unistd.h>

#include "vmm/base/error.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"
#include "vmm/base/process.hpp"
#include "vmm/libvirt/call_pool.hpp"
#include "vmm/libvirt/embedded_root.hpp"
#include "vmm/libvirt/handles.hpp"
#include "vmm/libvirt/line.hpp"
#include "vmm/libvirt/machine_state.hpp"

namespace agentvm {
namespace {

using libvirt::check_libvirt;
using libvirt::Connection;
using libvirt::Domain;

// Enough that one machine's slow start delays no other's stop; libvirt itself serialises per machine.
constexpr unsigned pool_thread_count = 4;

enum class Driver { embedded, session, system, test };

struct Target {
  Driver driver;
  std::string uri;
};

Target resolve_target(const LibvirtConfig& config) {
  const auto embedded = libvirt::embedded_uri(config.root);
  if (config.uri == "auto" || config.uri == "embed" || config.uri == embedded) return {Driver::embedded, embedded};
  if (config.uri == "qemu:///session") return {Driver::session, config.uri};
  if (config.uri == "qemu:///system") return {Driver::system, config.uri};
  if (config.uri == "test:///default") return {Driver::test, config.uri};
  throw Error(ErrorCode::usage,
              fmt::format("libvirt.uri '{}' is not one of auto, embed, qemu:///session, qemu:///system", config.uri));
}

/// Nothing when there is no such domain.
Domain look_up(virConnect* connection, const std::string& name) {
  Domain domain(virDomainLookupByName(connection, name.c_str()));
  if (!domain && virGetLastErrorCode() != VIR_ERR_NO_DOMAIN) libvirt::throw_last_error("looking up machine " + name);
  return domain;
}

Domain need(virConnect* connection, const std::string& name) {
  auto domain = look_up(connection, name);
  if (!domain) throw Error(ErrorCode::not_found, fmt::format("machine {} does not run", name));
  return domain;
}

DomainState state_of(virDomain* domain, const std::string& name) {
  int state = 0;
  check_libvirt(virDomainGetState(domain, &state, nullptr, 0), "state of machine " + name);
  switch (state) {
    case VIR_DOMAIN_RUNNING:
    case VIR_DOMAIN_BLOCKED:
    case VIR_DOMAIN_SHUTDOWN:
      return DomainState::running;  // the last: the guest is powering off, its process is still there
    case VIR_DOMAIN_PAUSED:
    case VIR_DOMAIN_PMSUSPENDED:
      return DomainState::paused;
    default:
      return DomainState::shut_off;
  }
}

/// The attribute `home` of our metadata element, which is its first: nothing that a name says can come before it.
std::string home_in(std::string_view element) {
  constexpr std::string_view attribute = " home=";
  const auto start = element.find(attribute);
  if (start == element.npos || start + attribute.size() >= element.size()) return "";
  const auto rest = element.substr(start + attribute.size());
  const auto end = rest.find(rest[0], 1);
  return end == rest.npos ? "" : std::string(rest.substr(1, end - 1));
}

DomainInfo describe(virDomain* domain) {
  DomainInfo info;
  info.domain = virDomainGetName(domain);
  info.state = state_of(domain, info.domain);
  const libvirt::Text ours(
      virDomainGetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, metadata_namespace, VIR_DOMAIN_AFFECT_CURRENT));
  std::array<char, VIR_UUID_STRING_BUFLEN> uuid{};
  if (ours && virDomainGetUUIDString(domain, uuid.data()) == 0) {
    info.id = uuid.data();
    info.home = home_in(ours.get());
  }
  return info;
}

/// A machine that ended between look-up and call is no error for whoever wants it ended.
bool says_gone(const libvirt::LibraryError& error) {
  return error.number() == VIR_ERR_NO_DOMAIN || error.number() == VIR_ERR_OPERATION_INVALID;
}

void destroy(virConnect* connection, const std::string& name) {
  const auto domain = look_up(connection, name);
  if (!domain) return;
  try {
    check_libvirt(virDomainDestroy(domain.get()), "stopping machine " + name);
  } catch (const libvirt::LibraryError& error) {
    if (!says_gone(error)) throw;
  }
}

/// The pid in libvirt's file, if it is that machine's process still.
std::optional<int> read_pid_file(const fs::path& path, const std::string& name) {
  const auto text = read_file_if_exists(path, 64);
  if (!text) return std::nullopt;
  int pid = 0;
  std::from_chars(text->data(), text->data() + text->size(), pid);
  if (pid <= 0) return std::nullopt;
  const auto arguments = read_file_if_exists(fmt::format("/proc/{}/cmdline", pid), 1u << 20);
  if (!arguments || arguments->find("guest=" + name) == std::string::npos) return std::nullopt;
  return pid;
}

class LibvirtHypervisor final : public Hypervisor {
 public:
  LibvirtHypervisor(LibvirtConfig config, Target target) : config_(std::move(config)), target_(std::move(target)) {
    // The system's daemon runs emulators as a user of its own, who cannot enter our folders.
    if (target_.driver == Driver::system) config_.platform.owner = {::geteuid(), ::getegid()};
  }
  void open(Deadline deadline) {
    if (target_.driver == Driver::embedded) libvirt::claim_embedded_root(config_.root, deadline);
    std::optional<libvirt::PrivateFolders> folders;
    if (target_.driver == Driver::embedded) folders.emplace(config_.root);
    libvirt::ensure_library();
    const bool daemon = target_.driver == Driver::session || target_.driver == Driver::system;
    line_.emplace(target_.uri, daemon ? libvirt::Line::Peer::daemon : libvirt::Line::Peer::library, pool_, deadline);
    if (target_.driver == Driver::embedded) saves_state_ = libvirt::can_save_state(config_.platform.emulator, deadline);
  }

  std::string uri() const override { return target_.uri; }

  std::set<HypervisorCapability> capabilities() const override {
    using enum HypervisorCapability;
    if (target_.driver == Driver::test) return {events};
    // Only what a verb of the port offers and the contract suite exercises.
    if (target_.driver != Driver::embedded) return {events, survives_close};
    if (!saves_state_) return {hot_plug, events, survives_close};
    return {state, hot_plug, events, survives_close};
  }

  void start(const MachineSpec& spec, Start mode, Deadline deadline) override {
    const auto xml = target_.driver == Driver::test ? test_domain_xml(spec) : domain_xml(spec, config_.platform);
    // The test driver knows no flag for it.
    const bool paused = mode == Start::paused, pause_after = paused && target_.driver == Driver::test;
    const unsigned flags = paused && !pause_after ? VIR_DOMAIN_START_PAUSED : VIR_DOMAIN_NONE;
    const auto connection = line_->get(deadline);
    const auto work = [connection, name = spec.domain, xml, flags, pause_after] {
      if (look_up(connection.get(), name))
        throw Error(ErrorCode::wrong_state, fmt::format("machine {} runs already", name));
      const Domain domain(
          check_libvirt(virDomainCreateXML(connection.get(), xml.c_str(), flags), "starting machine " + name));
      if (pause_after) check_libvirt(virDomainSuspend(domain.get()), "pausing machine " + name);
      return true;
    };
    if (target_.driver == Driver::embedded) libvirt::trim_machine_log(config_.root, spec.domain);
    // A start that comes through after its caller gave up must leave no machine behind.
    const auto undo = [connection, name = spec.domain](bool&) { destroy(connection.get(), name); };
    pool_.call("starting machine " + spec.domain, deadline, work, undo);
  }

  void stop(const std::string& domain, Deadline deadline) override {
    pool_.call("stopping machine " + domain, deadline, [connection = line_->get(deadline), domain] {
      destroy(connection.get(), domain);
      return true;
    });
  }

  void request_shutdown(const std::string& domain, Deadline deadline) override {
    pool_.call("asking machine " + domain + " to power off", deadline, [connection = line_->get(deadline), domain] {
      return check_libvirt(virDomainShutdown(need(connection.get(), domain).get()),
                           "asking machine " + domain + " to power off");
    });
  }

  void pause(const std::string& domain, Deadline deadline) override {
    pool_.call("pausing machine " + domain, deadline, [connection = line_->get(deadline), domain] {
      const auto handle = need(connection.get(), domain);
      if (state_of(handle.get(), domain) == DomainState::paused) return 0;
      return check_libvirt(virDomainSuspend(handle.get()), "pausing machine " + domain);
    });
  }

  void resume(const std::string& domain, Deadline deadline) override {
    pool_.call("resuming machine " + domain, deadline,
               [connection = line_->get(deadline), domain, saves = saves_state_, deadline] {
                 const auto handle = need(connection.get(), domain);
                 if (state_of(handle.get(), domain) == DomainState::running) return 0;
                 if (saves) libvirt::end_transfer(handle.get(), deadline);
                 return check_libvirt(virDomainResume(handle.get()), "resuming machine " + domain);
               });
  }

  std::optional<DomainInfo> find(const std::string& domain, Deadline deadline) override {
    return pool_.call("looking up machine " + domain, deadline,
                      [connection = line_->get(deadline), domain]() -> std::optional<DomainInfo> {
                        try {
                          const auto handle = look_up(connection.get(), domain);
                          if (handle) return describe(handle.get());
                        } catch (const libvirt::LibraryError& error) {
                          if (error.number() != VIR_ERR_NO_DOMAIN) throw;  // it ended in between
                        }
                        return std::nullopt;
                      });
  }

  std::vector<DomainInfo> list(Deadline deadline) override {
    return pool_.call("listing machines", deadline, [connection = line_->get(deadline)] {
      virDomainPtr* raw = nullptr;
      const int count = check_libvirt(virConnectListAllDomains(connection.get(), &raw, 0), "listing machines");
      std::vector<Domain> domains;
      for (int i = 0; i < count; ++i) domains.emplace_back(raw[i]);
      std::free(raw);
      std::vector<DomainInfo> result;
      for (const auto& domain : domains) try {
          result.push_back(describe(domain.get()));
        } catch (const libvirt::LibraryError& error) {
          if (error.number() != VIR_ERR_NO_DOMAIN) throw;
        }
      return result;
    });
  }

  void save_state(const std::string& domain, const MachineState& into, Deadline deadline) override {
    const auto process = need_process(domain);
    pool_.call("saving machine " + domain, deadline,
               [connection = line_->get(deadline), domain, process, into, deadline] {
                 libvirt::save_state(need(connection.get(), domain).get(), process, into, deadline);
                 return true;
               });
  }

  void load_state(const std::string& domain, const MachineState& from, Deadline deadline) override {
    const auto process = need_process(domain);
    pool_.call("restoring machine " + domain, deadline,
               [connection = line_->get(deadline), domain, process, from, deadline] {
                 libvirt::load_state(need(connection.get(), domain).get(), process, from, deadline);
                 return true;
               });
  }

  void plug(const std::string& domain, const ShareSpec& share, Deadline deadline) override {
    need_capability(HypervisorCapability::hot_plug);
    pool_.call("giving machine " + domain + " its share", deadline,
               [connection = line_->get(deadline), domain, xml = plugged_share_xml(share)] {
                 return check_libvirt(virDomainAttachDeviceFlags(need(connection.get(), domain).get(), xml.c_str(),
                                                                 VIR_DOMAIN_AFFECT_LIVE),
                                      "giving machine " + domain + " its share");
               });
  }

  std::optional<int> pid(const std::string& domain, Deadline) override {
    switch (target_.driver) {
      case Driver::embedded:
        return read_pid_file(config_.root / "run" / "qemu" / (domain + ".pid"), domain);
      case Driver::system:
        return read_pid_file(fs::path("/run/libvirt/qemu") / (domain + ".pid"), domain);
      case Driver::session: {
        const char* runtime = std::getenv("XDG_RUNTIME_DIR");
        return runtime ? read_pid_file(fs::path(runtime) / "libvirt/qemu/run" / (domain + ".pid"), domain)
                       : std::nullopt;
      }
      case Driver::test:
        return std::nullopt;
    }
    return std::nullopt;
  }

  void on_event(std::function<void(const Event&)> callback) override { line_->on_event(std::move(callback)); }

 private:
  void need_capability(HypervisorCapability capability) const {
    if (!capabilities().contains(capability))
      throw Error(ErrorCode::host_lacks, fmt::format("{} cannot do this to a machine", target_.uri));
  }
  int need_process(const std::string& domain) {
    need_capability(HypervisorCapability::state);
    const auto process = pid(domain, Deadline::never());
    if (!process) throw Error(ErrorCode::not_found, fmt::format("machine {} does not run", domain));
    return *process;
  }

  LibvirtConfig config_;
  Target target_;
  libvirt::CallPool pool_{pool_thread_count, libvirt::drop_capabilities_of_children};
  std::optional<libvirt::Line> line_;
  bool saves_state_ = false;
};

}  // namespace

MachinePlatform find_machine_platform() {
  MachinePlatform platform;
  platform.emulator = find_program("qemu-system-x86_64");
  if (platform.emulator.empty())
    throw Error(ErrorCode::host_lacks, "the emulator qemu-system-x86_64 is not installed",
                "apt install qemu-system-x86");
  for (const char* path : {"/usr/share/qemu/qboot.rom", "/usr/share/qboot/bios.bin", "/usr/local/share/qemu/qboot.rom"})
    if (::access(path, R_OK) == 0) {
      platform.firmware = path;
      return platform;
    }
  throw Error(ErrorCode::host_lacks, "QEMU's firmware qboot.rom is not installed", "apt install qemu-system-data");
}

std::string libvirt_version() {
  unsigned long version = 0;
  if (::virGetVersion(&version, nullptr, nullptr) < 0) return "";
  return fmt::format("{}.{}.{}", version / 1'000'000, version / 1000 % 1000, version % 1000);  // libvirt-host.h
}

std::shared_ptr<Hypervisor> open_libvirt(const LibvirtConfig& config, Deadline deadline) {
  auto hypervisor = std::make_shared<LibvirtHypervisor>(config, resolve_target(config));
  hypervisor->open(deadline);
  return hypervisor;
}

}  // namespace agentvm
