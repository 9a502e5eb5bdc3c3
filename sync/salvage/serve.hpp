#pragma once
// The stand-in for a guest that is gone: its one program is git-upload-pack on a repository of ours.

#include <memory>

#include "guest/streams.hpp"
#include "vmm/base/files.hpp"

namespace agentvm::sync {

/// `repository` must outlive the result and every Exec of it. `exec` runs git-upload-pack there for a request that
/// names it, with none of anybody's configuration; every other call throws `wrong_state`.
std::unique_ptr<guest::Streams> serve_repository(const fs::path& repository);

}  // namespace agentvm::sync
