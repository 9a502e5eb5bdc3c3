#pragma once
// The guest's agent and the host's reading of its answers, without the port between them.

#include <memory>

#include "guest/agent/repository_reader.hpp"
#include "guest/control/repository.hpp"
#include "sync/loose_source.hpp"

namespace agentvm::test {

inline sync::LooseSource reader_of(const std::filesystem::path& repository) {
  const auto reader = std::make_shared<guest::agent::RepositoryReader>(repository);
  return {[reader](Deadline) -> std::optional<sync::LooseSource::References> {
            auto found = guest::parse_guest_references(reader->references());
            if (!found) return std::nullopt;
            return sync::LooseSource::References{found->head, found->tips};
          },
          [reader](const std::vector<std::string>& ids, std::stop_token, Deadline) {
            return guest::parse_guest_objects(reader->objects(ids), ids);
          }};
}

}  // namespace agentvm::test
