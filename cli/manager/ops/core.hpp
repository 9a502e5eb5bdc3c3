#pragma once
// What all operations share: the store, the hypervisors, what is open into running guests, and the threads that look
// after it.

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "cli/manager/ops/agent_watch.hpp"
#include "cli/manager/ops/disk_guard.hpp"
#include "cli/manager/ops/front.hpp"
#include "cli/manager/ops/janitor.hpp"
#include "cli/manager/ops/live.hpp"
#include "cli/manager/ops/nested_watch.hpp"
#include "cli/manager/ops/process_watch.hpp"
#include "cli/manager/ops/secrets.hpp"
#include "cli/manager/ops/sync_watch.hpp"
#include "cli/manager/ops/template_maker.hpp"
#include "cli/manager/ops/wip_timer.hpp"
#include "guest/control/serial_log.hpp"
#include "guest/image/images.hpp"
#include "proxy/egress/egress.hpp"
#include "proxy/egress/journal.hpp"
#include "vmm/base/paths.hpp"
#include "vmm/hypervisor.hpp"
#include "vmm/store.hpp"
#include "vmm/trust.hpp"

namespace agentvm::manager {

/// The `image` that is built from the recipe within this program.
inline constexpr std::string_view default_image = "default";

/// Thread-safe.
/// Of a sandbox whose vCPUs nobody here stopped.
inline constexpr const char* host_paused_message =
    "its vCPUs were stopped by somebody else, or because a disk of the host is full";

class Core {
 public:
  /// How hypervisors are opened; by default libvirt's.
  using OpenHypervisor = std::function<std::shared_ptr<Hypervisor>(const std::string& uri, Deadline deadline)>;
  explicit Core(Paths paths, OpenHypervisor open = {});
  ~Core();

  const Paths& paths() const { return paths_; }
  Store& store() { return store_; }
  TrustStore& trust() { return trust_; }
  /// What the project's file (as far as it is trusted), the user's file and `environment` make of every key now. Throws
  /// as `resolve_config` and `read_config_file` do.
  /// Of the user's own file alone: nothing that a guest could have committed has a say, nor can it be in the way.
  Config user_config() const;
  Config project_config(const fs::path& project, const std::map<std::string, std::string>& environment = {});
  ProcessWatch& watch() { return watch_; }
  Janitor& janitor() { return janitor_; }
  guest::SerialLogs& serial() { return serial_; }
  egress::Egress& egress() { return *egress_; }
  SecretKeeper& secrets() { return secrets_; }
  /// What the guests' connections became.
  egress::Journal& journal() { return journal_; }
  Front& front() { return *front_; }
  WipTimer& wip_timer() { return *wip_timer_; }
  SyncWatch& syncs() { return *syncs_; }
  AgentWatch& agents() { return *agents_; }
  NestedWatch& nested() { return nested_; }
  TemplateMaker& templates() { return *templates_; }

  /// Opened when first asked for, then kept: an embedded driver cannot be closed again. `uri` as in the record or the
  /// configuration.
  std::shared_ptr<Hypervisor> hypervisor(const std::string& uri, Deadline deadline);

  /// What changes a sandbox holds this: requests and the janitor alike.
  class Hold {
   public:
    explicit Hold(std::shared_ptr<std::timed_mutex> mutex)
        : mutex_(std::move(mutex)), lock_(*mutex_, std::defer_lock) {}
    std::unique_lock<std::timed_mutex>& lock() { return lock_; }

   private:
    std::shared_ptr<std::timed_mutex> mutex_;
    std::unique_lock<std::timed_mutex> lock_;
  };
  /// Throws `timed_out` naming the sandbox when another operation keeps it busy.
  Hold hold(const SandboxName& name, Deadline deadline);
  /// Nothing when it is busy.
  std::unique_ptr<Hold> try_hold(const SandboxName& name);

  /// Moves the record's state and logs it; `also` changes it at the same stroke. `ready` throws `host_lacks` with the
  /// record's message where there is one: its machine was ended meanwhile.
  SandboxRecord apply(const SandboxName& name, SandboxEvent event, const std::string& reason,
                      const std::string& message = "", const std::function<void(SandboxRecord&)>& also = {});

  /// The record, and in it what a full disk of the host kept from being recorded: that its vCPUs are stopped.
  SandboxRecord as_seen(SandboxRecord record);

  /// What is open into the guest; nothing when it is not running (here).
  std::shared_ptr<LiveSandbox> live(const SandboxName& name);
  void set_live(const SandboxName& name, std::shared_ptr<LiveSandbox> live);
  /// What asks the guest by itself, again and again: not while its vCPUs are stopped. `set_live` begins with it.
  void follow_guest(const SandboxName& name);
  void leave_guest(const SandboxName& name);
  /// Takes it out and closes it.
  void drop_live(const SandboxName& name);
  bool any_live();
  std::size_t live_count();

  /// The request for the recipe of that path, or for the built-in one (`default_image` or nothing). Throws `not_found`
  /// for another name: whoever wants an image by its name looks among those that are there.
  ImageRequest image_request(const std::string& image) const;
  /// Disks that outlived their sandboxes (`destroy --keep-disk`), each with a file NAME.image: the digest it stands on.
  fs::path kept_disks() const { return paths_.state / "kept-disks"; }
  /// The appliances that read disks of dead guests; in the data folder, like the images whose kernels they run.
  fs::path appliances() const { return paths_.data / "guestfs"; }
  /// What new sandboxes can go on from; in the data folder, like the images that they stand on.
  fs::path templates_folder() const { return paths_.data / "templates"; }
  /// The sandbox that a request means (`name`, else the project of `cwd`).
  SandboxRecord resolve(const Json& params);

  /// Closes everything open into guests; they go on. For the manager's end.
  void shut_down();

 private:
  const Paths paths_;
  const OpenHypervisor open_;
  Store store_;
  TrustStore trust_;
  SecretKeeper secrets_;
  guest::SerialLogs serial_;
  egress::Journal journal_;
  std::unique_ptr<egress::Egress> egress_;  // writes into the journal
  std::mutex mutex_;                        // guards the maps
  std::map<std::string, std::shared_ptr<Hypervisor>> hypervisors_;
  std::map<std::string, std::shared_ptr<LiveSandbox>> live_;
  std::map<std::string, std::shared_ptr<std::timed_mutex>> holds_;
  std::mutex opening_;  // one open at a time; taken before mutex_
  ProcessWatch watch_;
  Janitor janitor_;                      // its tasks use everything above
  std::unique_ptr<Front> front_;         // it dials through what is above
  std::unique_ptr<WipTimer> wip_timer_;  // its thread uses everything above
  std::unique_ptr<AgentWatch> agents_;   // it calls back into what is above
  NestedWatch nested_;
  std::unique_ptr<SyncWatch> syncs_;          // its syncs use everything
  std::unique_ptr<DiskGuard> disk_guard_;     // its thread uses all of the above
  std::unique_ptr<TemplateMaker> templates_;  // likewise
};

}  // namespace agentvm::manager
