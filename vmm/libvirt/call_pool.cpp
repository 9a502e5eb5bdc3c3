#include "vmm/libvirt/call_pool.hpp"

#include <csignal>

#include <pthread.h>

#include "vmm/base/log.hpp"

namespace agentvm::libvirt {
namespace {
constexpr std::size_t queue_limit_count = 256;
constexpr auto stop_grace = std::chrono::seconds(2);
}  // namespace

CallPool::CallPool(unsigned thread_count, std::function<void()> on_thread) {
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  shared_->running_threads = thread_count;
  for (unsigned i = 0; i < thread_count; ++i)
    threads_.emplace_back([shared = shared_, on_thread] {
      if (on_thread) on_thread();
      work_off(shared);
    });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

CallPool::~CallPool() {
  std::unique_lock lock(shared_->mutex);
  shared_->stopping = true;
  shared_->queue.clear();
  shared_->changed.notify_all();
  const bool ended = shared_->changed.wait_for(lock, stop_grace, [this] { return shared_->running_threads == 0; });
  lock.unlock();
  for (auto& thread : threads_)
    if (ended)
      thread.join();
    else
      thread.detach();  // stuck in the library; it owns what it uses
}

void CallPool::submit(std::function<void()> job) {
  const std::lock_guard lock(shared_->mutex);
  if (shared_->queue.size() >= queue_limit_count)
    throw Error(ErrorCode::operation_failed, "libvirt does not answer: too many calls are waiting for it",
                "agentvm doctor");
  shared_->queue.push_back(std::move(job));
  shared_->changed.notify_one();
}

void CallPool::work_off(const std::shared_ptr<Shared>& shared) {
  std::unique_lock lock(shared->mutex);
  for (;;) {
    shared->changed.wait(lock, [&] { return shared->stopping || !shared->queue.empty(); });
    if (shared->stopping) break;
    {
      auto job = std::move(shared->queue.front());
      shared->queue.pop_front();
      lock.unlock();
      try {
        job();
      } catch (const std::exception& error) {  // only an undo can get here: nobody waits for its result
        log::warn("libvirt", "undoing a late call: {}", error.what());
      }
    }
    lock.lock();
  }
  --shared->running_threads;
  shared->changed.notify_all();
}

}  // namespace agentvm::libvirt
