#pragma once
// Streams that can be taken away in the middle: what reads or writes them sees their end.

#include <memory>
#include <stop_token>

#include "guest/streams.hpp"

namespace agentvm::manager {

/// `inner`, until `stop`: then the streams of every process started through this end on both sides, and calls throw
/// `cancelled`. Thread-safe as `inner` is, which must outlive it.
std::unique_ptr<guest::Streams> stoppable(guest::Streams& inner, std::stop_token stop);

}  // namespace agentvm::manager
