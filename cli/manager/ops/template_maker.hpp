#pragma once
// Makes templates: a machine that is nobody's boots, without a project, keys, a share or a way out, comes to rest and
// is saved. Who goes on from one is the matter of boot.hpp.
//
// One at a time per data folder (a lock file). A manager that is killed meanwhile leaves a machine that ends by itself
// within a minute, or by the next manager, which knows no record of it; and a folder that the next one to make a
// template removes.

#include <condition_variable>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>

#include "cli/manager/ops/template_store.hpp"
#include "guest/image/images.hpp"
#include "vmm/base/progress.hpp"
#include "vmm/sandbox.hpp"

namespace agentvm::manager {

class Core;

/// Of the machine that `record` (with its accelerator and driver) would start on `image`.
TemplateShape template_shape(const Core& core, const SandboxRecord& record, const Image& image);

/// Thread-safe.
class TemplateMaker {
 public:
  explicit TemplateMaker(Core& core);
  ~TemplateMaker();
  TemplateMaker(const TemplateMaker&) = delete;
  TemplateMaker& operator=(const TemplateMaker&) = delete;

  /// One of this record's shape soon, at the lowest priority, where none is there, none is being made and this host has
  /// room. Returns at once; what goes wrong is logged, and not tried again by this manager.
  void wish(const SandboxRecord& record, const Image& image);
  /// The template of this record's shape, made now where there is none. Throws `host_lacks` without room for it or with
  /// a driver that cannot save machines, `cancelled`, and what the machine threw; then nothing is left.
  MachineTemplate make(const SandboxRecord& record, const Image& image, const Progress& progress, std::stop_token stop,
                       Deadline deadline);
  /// The domain of the machine that a template is being made with; empty: none.
  std::string machine() const;
  /// Ends what it is making.
  void stop();

 private:
  enum class Priority { usual, lowest };
  struct Wish {
    SandboxRecord record;
    Image image;
  };
  void run(const std::stop_token& stop);
  MachineTemplate make_as(Priority priority, const SandboxRecord& record, const Image& image, const Progress& progress,
                          std::stop_token stop, Deadline deadline);
  void check_room(const SandboxRecord& record) const;

  Core& core_;
  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable_any changed_;
  std::optional<Wish> wish_;
  std::set<std::string> failed_;  // keys
  std::string machine_, uri_;
  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace agentvm::manager
