#include "cli/manager/ops/template_maker.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "cli/manager/ops/boot.hpp"
#include "cli/manager/ops/core.hpp"
#include "cli/manager/ops/machine_limits.hpp"
#include "guest/control/control.hpp"
#include "vmm/base/digest.hpp"
#include "vmm/base/file_lock.hpp"
#include "vmm/base/files.hpp"
#include "vmm/base/log.hpp"
#include "vmm/disk/overlay.hpp"
#include "vmm/host.hpp"
#include "vmm/libvirt/libvirt_hypervisor.hpp"
#include "vmm/limits.hpp"

namespace agentvm::manager {
namespace {

constexpr milliseconds call_limit{60'000}, make_limit{15 * 60'000}, boot_limit{4 * 60'000};
constexpr milliseconds wish_pause{5'000};    // the start that wished for it has its last steps to do
constexpr milliseconds settle_pause{3'000};  // what systemd starts last
constexpr milliseconds hang_up_pause{300};   // the guest's agent sees that nobody is there any more
constexpr auto memory_reserve = ByteSize::gibibytes(1), disk_needed = ByteSize::gibibytes(1);
constexpr std::size_t kept_templates = 4;
/// No sandbox has such a name.
constexpr const char* sockets_name = ".template";

std::string identity_of(const fs::path& file) {
  struct stat status {};
  if (::stat(file.c_str(), &status) < 0) throw_errno(file.string());
  return fmt::format("{} {} {}.{}", file.string(), status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
}

/// A guest under KVM sees the host's CPU.
std::string describe_host() {
  utsname names{};
  check_errno(::uname(&names), "uname");
  std::string text = names.release;
  const auto cpu = read_file("/proc/cpuinfo", 4u << 20);
  for (const char* field : {"\nmodel name", "\nmicrocode", "\nflags"}) {
    const auto start = cpu.find(field);
    if (start != cpu.npos) text += cpu.substr(start, cpu.find('\n', start + 1) - start);
  }
  return sha256_hex(text);
}

/// The machine's definition, with names, ports and paths of its own made the same for all.
std::string definition_of(const Core& core, const SandboxRecord& record, const Image& image) {
  auto spec = machine_spec(core, record, "/", image);
  spec.domain = "template";
  spec.id = spec.generation_id = "00000000-0000-4000-8000-000000000000";
  spec.sandbox = spec.home = "template";
  spec.serial_socket = spec.agent_socket = "/socket";
  spec.ssh_port = 22;
  spec.shares.clear();
  return sha256_hex(domain_xml(spec, find_machine_platform()));
}

std::uint16_t port_of(const std::string& domain) {
  constexpr unsigned first = 20'000, count = 12'000;  // below those that the system hands out
  return static_cast<std::uint16_t>(first + std::stoul(domain.substr(domain.size() - 6), nullptr, 16) % count);
}

/// Nobody's: what a guest needs to come up, and nothing to be known by.
guest::Identity neutral_identity(const SandboxRecord& record) {
  guest::Identity identity;
  identity.hostname = "agentvm-template";
  identity.machine_id = random_hex(16);
  identity.network = guest::GuestNetwork();
  identity.nested = record.nested;
  identity.for_template = true;
  // sshd waits for its key, and whoever brings it starts it.
  identity.files.push_back({"/etc/systemd/system/ssh.service.d/50-agentvm-key.conf", 0644, 0, 0,
                            "[Unit]\nConditionPathExists=/etc/ssh/ssh_host_ed25519_key\n"});
  return identity;
}

void to_lowest_priority(int pid) {
  constexpr int lowest = 19;
  std::error_code ended;
  for (const auto& entry : fs::directory_iterator(fmt::format("/proc/{}/task", pid), ended))
    ::setpriority(PRIO_PROCESS, static_cast<id_t>(std::atoi(entry.path().filename().c_str())), lowest);
}

struct RemovedFolder {
  const fs::path path;
  ~RemovedFolder() {
    try {
      remove_tree(path);
    } catch (const Error& error) {
      log::error("template", "{}", error.what());
    }
  }
};

}  // namespace

TemplateShape template_shape(const Core& core, const SandboxRecord& record, const Image& image) {
  const auto platform = find_machine_platform();
  TemplateShape shape;
  shape.image = image.digest;
  shape.root = image.root;
  shape.guest = sha256_hex(dump_json(image.sealed));
  shape.layer = record.layer;
  shape.memory_bytes = record.memory.bytes();
  shape.vcpus = record.vcpus;
  shape.accelerator = record.accelerator;
  shape.nested = record.nested;
  shape.network = record.network == NetworkMode::nat ? "open" : "restricted";
  shape.emulator = fmt::format("{}; {}", identity_of(platform.emulator), identity_of(platform.firmware));
  shape.libvirt = libvirt_version();
  shape.host = record.accelerator == "kvm" ? describe_host() : "";
  shape.definition = definition_of(core, record, image);
  shape.version = AGENTVM_VERSION;
  shape.uid = ::geteuid();
  return shape;
}

TemplateMaker::TemplateMaker(Core& core) : core_(core), thread_([this](const std::stop_token& stop) { run(stop); }) {
  try {
    const TemplateStore store(core.templates_folder());
    remove_tree(core.paths().sockets(sockets_name));
    if (fs::exists(core.templates_folder()))
      if (const auto lock = FileLock::try_acquire(store.lock_file())) store.sweep();
  } catch (const Error& error) {  // untidy, no more
    log::warn("template", "{}", error.what());
  }
}

TemplateMaker::~TemplateMaker() {
  stop();
}

void TemplateMaker::wish(const SandboxRecord& record, const Image& image) {
  {
    const std::lock_guard lock(mutex_);
    if (wish_ || !machine_.empty()) return;
    wish_ = Wish{record, image};
  }
  changed_.notify_all();
}

std::string TemplateMaker::machine() const {
  const std::lock_guard lock(mutex_);
  return machine_;
}

void TemplateMaker::stop() {
  thread_.request_stop();
  std::string domain, uri;
  {
    const std::lock_guard lock(mutex_);
    domain = machine_;
    uri = uri_;
  }
  try {
    if (!domain.empty()) core_.hypervisor(uri, Deadline::after(call_limit))->stop(domain, Deadline::after(call_limit));
  } catch (const Error& error) {
    log::warn("template", "{}", error.what());
  }
  if (thread_.joinable()) thread_.join();
}

void TemplateMaker::run(const std::stop_token& stop) {
  for (;;) {
    std::optional<Wish> wish;
    {
      std::unique_lock lock(mutex_);
      if (!changed_.wait(lock, stop, [this] { return wish_.has_value(); })) return;
      changed_.wait_for(lock, stop, wish_pause, [] { return false; });
      wish = std::move(wish_);
      wish_.reset();
    }
    if (stop.stop_requested()) return;
    std::string key;
    try {
      key = template_shape(core_, wish->record, wish->image).key();
      if (failed_.contains(key)) continue;
      make_as(Priority::lowest, wish->record, wish->image, no_progress(), stop, Deadline::after(make_limit));
    } catch (const std::exception& problem) {
      log::warn("template", "none was made: {}", problem.what());
      failed_.insert(key);
    }
  }
}

void TemplateMaker::check_room(const SandboxRecord& record) const {
  check_disk_reserve(core_, "making a template");
  const auto disk = disk_room(core_.paths().data).bytes;
  if (disk < 2 * disk_needed.bytes())
    throw Error(ErrorCode::host_lacks,
                fmt::format("a template takes up to {}, and {} are left below {}", disk_needed.str(),
                            ByteSize(disk).str(), core_.paths().data.string()),
                "agentvm image prune");
  const auto memory = read_host_facts().memory_available;
  if (memory.bytes() < record.memory.bytes() + memory_reserve.bytes())
    throw Error(
        ErrorCode::host_lacks,
        fmt::format("a template's machine needs {} of memory, and {} are left", record.memory.str(), memory.str()),
        "agentvm list");
}

MachineTemplate TemplateMaker::make(const SandboxRecord& record, const Image& image, const Progress& progress,
                                    std::stop_token stop, Deadline deadline) {
  return make_as(Priority::usual, record, image, progress, std::move(stop), deadline);
}

namespace {

/// The machine of one template, from its start to its end.
class Maker {
 public:
  Maker(Core& core, const SandboxRecord& record, const Image& image, const fs::path& folder)
      : hypervisor_(core.hypervisor(record.libvirt_uri, Deadline::after(call_limit))),
        sockets_(core.paths().sockets(sockets_name)),
        record_(record),
        spec_(machine_spec(core, record, folder, image)) {
    spec_.id = new_uuid();
    spec_.domain = "avm-t" + spec_.id.substr(0, 8);
    spec_.sandbox = "a template";
    spec_.shares.clear();
    spec_.network = NetworkMode::none;  // whoever goes on from it has the network that they asked for
    spec_.ssh_port = port_of(spec_.domain);
    spec_.serial_socket = sockets_ / socket_files::serial;
    spec_.agent_socket = sockets_ / socket_files::agent;
    remove_tree(sockets_);
    ensure_private_dir(sockets_);
  }
  ~Maker() {
    try {
      hypervisor_->stop(spec_.domain, Deadline::after(call_limit));
      remove_tree(sockets_);
    } catch (const Error& error) {
      log::error("template", "{}", error.what());
    }
  }
  Maker(const Maker&) = delete;
  Maker& operator=(const Maker&) = delete;

  const std::string& domain() const { return spec_.domain; }
  void start() { hypervisor_->start(spec_, Hypervisor::Start::paused, Deadline::after(call_limit)); }
  std::optional<int> pid() { return hypervisor_->pid(spec_.domain, Deadline::after(call_limit)); }

  /// Until it is what everybody goes on from.
  void boot(const std::string& nonce) {
    const auto patience = Deadline::after(boot_limit);
    const auto control = guest::Control::connect(spec_.agent_socket, Deadline::after(call_limit));
    hypervisor_->resume(spec_.domain, Deadline::after(call_limit));
    control->hello(patience);
    control->identify(neutral_identity(record_), patience);
    control->wait_until("userspace", patience);
    system_clock().sleep(settle_pause);
    control->freeze(nonce, Deadline::after(call_limit));
  }

  void save(const fs::path& folder) {
    system_clock().sleep(hang_up_pause);
    hypervisor_->pause(spec_.domain, Deadline::after(call_limit));
    MachineTemplate names;
    names.folder = folder;
    hypervisor_->save_state(spec_.domain, {names.devices(), names.memory(), sockets_ / "state.sock"},
                            Deadline::after(call_limit));
    hypervisor_->stop(spec_.domain, Deadline::after(call_limit));  // its disk is whole now
  }

 private:
  const std::shared_ptr<Hypervisor> hypervisor_;
  const fs::path sockets_;
  const SandboxRecord record_;
  MachineSpec spec_;
};

}  // namespace

MachineTemplate TemplateMaker::make_as(Priority priority, const SandboxRecord& record, const Image& image,
                                       const Progress& progress, std::stop_token stop, Deadline deadline) {
  const auto hypervisor = core_.hypervisor(record.libvirt_uri, Deadline::after(call_limit));
  if (!hypervisor->capabilities().contains(HypervisorCapability::state))
    throw Error(
        ErrorCode::host_lacks,
        hypervisor->uri() + " cannot save machines here (QEMU up to 8.0 and from 9.0 can, with libvirt.uri: auto)",
        "agentvm config show");
  check_room(record);
  const TemplateStore store(core_.templates_folder());
  ensure_private_dir(core_.templates_folder());
  const auto lock =
      FileLock::acquire(store.lock_file(), priority == Priority::lowest ? Deadline::after(milliseconds(0)) : deadline);
  const auto shape = template_shape(core_, record, image);
  std::string why_not;
  if (auto found = store.find(shape, why_not)) return *found;
  const RemovedFolder folder{store.begin()};
  MachineTemplate names;
  names.folder = folder.path;
  create_overlay(names.disk(), image.root, DiskFormat::raw, ByteSize(), Deadline::after(call_limit));
  const auto nonce = random_hex(16);
  const auto cancelled = [&stop] {
    if (stop.stop_requested()) throw Error(ErrorCode::cancelled, "making a template was cancelled");
  };
  {
    Maker maker(core_, record, image, folder.path);
    const auto set_machine = [this](const std::string& domain, const std::string& uri) {
      const std::lock_guard guard(mutex_);
      machine_ = domain;
      uri_ = uri;
    };
    struct Forgotten {
      const std::function<void(const std::string&, const std::string&)> set;
      ~Forgotten() { set("", ""); }
    } const forgotten{set_machine};
    set_machine(maker.domain(), hypervisor->uri());
    cancelled();
    log::info("template", "making one for {} of memory, {} vCPUs, {}", record.memory.str(), record.vcpus,
              record.accelerator);
    report(progress, "template", "starting a machine for the template");
    maker.start();
    // Whoever stops us ends the machine, which ends every wait below.
    const std::stop_callback on_stop(stop, [this, hypervisor, domain = maker.domain()] {
      core_.janitor().post("template", [hypervisor, domain] { hypervisor->stop(domain, Deadline::after(call_limit)); });
    });
    cancelled();
    if (const auto pid = maker.pid()) {
      yield_to_host(*pid);
      if (priority == Priority::lowest) to_lowest_priority(*pid);
    }
    try {
      maker.boot(nonce);
      report(progress, "template", "saving it");
      cancelled();
      maker.save(folder.path);
    } catch (const Error&) {
      cancelled();
      throw;
    }
  }
  cancelled();
  const auto made = store.publish(folder.path, shape, nonce, system_clock().unix_seconds());
  store.trim(kept_templates, [this](const MachineTemplate& one) {
    const auto image_folder = core_.paths().images() / value_or<std::string>(one.shape, "image", "none");
    return value_or<std::string>(one.shape, "version", "") == AGENTVM_VERSION && fs::exists(image_folder);
  });
  log::info("template", "{} is there, {}", made.key.substr(0, 12), ByteSize(made.size_bytes).str());
  return made;
}

}  // namespace agentvm::manager
