#include "guest/ssh/session/mailbox.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

namespace agentvm::guest {

Mailbox::Mailbox() : event_(check_errno(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "making an eventfd")) {}

bool Mailbox::post(std::function<void()> task) {
  const std::lock_guard lock(mutex_);
  if (closed_) return false;
  tasks_.push_back(std::move(task));
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(event_.get(), &one, sizeof one);  // full (2^64 posts) still wakes
  return true;
}

std::vector<std::function<void()>> Mailbox::take() {
  std::uint64_t count = 0;
  const std::lock_guard lock(mutex_);
  [[maybe_unused]] const auto got = ::read(event_.get(), &count, sizeof count);
  return std::exchange(tasks_, {});
}

void Mailbox::close() {
  std::vector<std::function<void()>> dropped;
  const std::lock_guard lock(mutex_);
  closed_ = true;
  dropped.swap(tasks_);
}

}  // namespace agentvm::guest
